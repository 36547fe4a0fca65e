//! Metrics of listeners: the number of responses by result, and their time. Metrics that are read at each scrape.

mod by_label; // families with one label

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use self::by_label::ByLabel;

/// Labels of a response. A client cannot choose their values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResponseLabels {
    /// The HTTP status.
    pub status: u16,
    /// The error code, or `ok`.
    pub code: &'static str,
}

/// Responses by status and code, and their time.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    responses: Family<ResponseLabels, Counter>,
    /// The series of most responses, held.
    ok: Counter,
    seconds: Histogram,
}

impl HttpMetrics {
    /// Registers `pod_identity_http_responses_total` and `pod_identity_http_response_seconds`.
    pub fn register(registry: &mut Registry) -> Self {
        let responses = Family::<ResponseLabels, Counter>::default();
        let ok = responses.get_or_create_owned(&ResponseLabels { status: 200, code: "ok" });
        // From the time of a cached response to the 10 s of an upstream call.
        let seconds = Histogram::new([
            0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ]);
        registry.register(
            "pod_identity_http_responses",
            "Responses by HTTP status and error code",
            responses.clone(),
        );
        registry.register(
            "pod_identity_http_response_seconds",
            "Time from a request head to its response, in seconds",
            seconds.clone(),
        );
        Self { responses, ok, seconds }
    }

    /// Counts a response.
    pub fn count(&self, status: u16, code: &'static str, took: Duration) {
        match (status, code) {
            (200, "ok") => self.ok.inc(),
            _ => self.responses.get_or_create(&ResponseLabels { status, code }).inc(),
        };
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Registers a gauge that is read at each scrape. It is absent while there is no value.
pub fn register_gauge<N: EncodeGaugeValue + 'static>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
    read: impl Fn() -> Option<N> + Send + Sync + 'static,
) {
    let read = move || read().map(ConstGauge::new);
    registry.register_collector(Box::new(Reading { name, help, read }));
}

/// Registers a counter that is read at each scrape.
pub fn register_counter(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
    read: impl Fn() -> u64 + Send + Sync + 'static,
) {
    let read = move || Some(ConstCounter::new(read()));
    registry.register_collector(Box::new(Reading { name, help, read }));
}

/// Registers a gauge with labels that is read at each scrape. It has the series that `read` returns, so a removed
/// cluster leaves no series.
pub fn register_gauges<L: EncodeLabelSet + 'static, N: EncodeGaugeValue + 'static>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
    read: impl Fn() -> Vec<(L, N)> + Send + Sync + 'static,
) {
    let encode = |value: N, encoder: MetricEncoder<'_>| ConstGauge::new(value).encode(encoder);
    registry.register_collector(Box::new(Readings { name, help, kind: MetricType::Gauge, read, encode }));
}

/// Registers a counter with labels that is read at each scrape. It has the series that `read` returns.
pub fn register_counters<L: EncodeLabelSet + 'static>(
    registry: &mut Registry,
    name: &'static str,
    help: &'static str,
    read: impl Fn() -> Vec<(L, u64)> + Send + Sync + 'static,
) {
    let encode = |value: u64, encoder: MetricEncoder<'_>| ConstCounter::new(value).encode(encoder);
    registry.register_collector(Box::new(Readings { name, help, kind: MetricType::Counter, read, encode }));
}

struct Readings<F, N> {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: F,
    encode: fn(N, MetricEncoder<'_>) -> fmt::Result,
}

impl<L, N, F> Collector for Readings<F, N>
where
    L: EncodeLabelSet + 'static,
    N: 'static,
    F: Fn() -> Vec<(L, N)> + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let series = (self.read)();
        if series.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(self.name, self.help, None, self.kind)?;
        for (labels, value) in series {
            (self.encode)(value, family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl<F, N> fmt::Debug for Readings<F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readings").field("name", &self.name).finish_non_exhaustive()
    }
}

struct Reading<F> {
    name: &'static str,
    help: &'static str,
    read: F,
}

impl<M: EncodeMetric, F: Fn() -> Option<M> + Send + Sync + 'static> Collector for Reading<F> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(metric) = (self.read)() else { return Ok(()) };
        metric.encode(encoder.encode_descriptor(self.name, self.help, None, metric.metric_type())?)
    }
}

impl<F> fmt::Debug for Reading<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn gauge_is_read_at_each_scrape_and_absent_without_a_value() {
        let (value, mut registry) = (Arc::new(AtomicU64::new(0)), Registry::default());
        let read = value.clone();
        register_gauge(&mut registry, "pods", "Pods", move || {
            Some(read.load(Ordering::Relaxed)).filter(|there| *there > 0)
        });
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        assert_eq!(text(), "# EOF\n");
        value.store(7, Ordering::Relaxed);
        assert!(text().contains("\npods 7\n"), "{}", text());
    }
}
