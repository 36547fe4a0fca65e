//! How many requests there were, and how fast they were answered: under this project's names, and under those
//! of AWS's webhook.

use std::time::Duration;

use http::Method;
use pod_identity_runtime::metrics::HttpMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Route;

/// What was asked for. Neither label can take a value that a client chooses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    verb: &'static str,
    path: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    verb: &'static str,
    path: &'static str,
    code: u16,
}

#[derive(Debug)]
pub(super) struct RequestMetrics {
    http: HttpMetrics,
    /// A gauge to the metrics library, since what it calls a counter gets the end `_total`.
    count: Family<Answered, Gauge>,
    latencies: Family<Asked, Histogram, fn() -> Histogram>,
}

/// Counts one request.
#[derive(Debug)]
pub(super) struct OneRequest<'a> {
    metrics: &'a RequestMetrics,
    asked: Asked,
}

impl RequestMetrics {
    /// Registers what [`HttpMetrics`] has, and `http_request_count` and `http_request_latencies` of AWS's webhook.
    pub(super) fn register(registry: &mut Registry) -> Self {
        // In microseconds, with the bounds of AWS's webhook: 125 ms to 8 s.
        let latencies = || Histogram::new((0..7).map(|power| 125_000.0 * f64::from(1 << power)));
        let metrics = Self {
            http: HttpMetrics::register(registry),
            count: Family::default(),
            latencies: Family::new_with_constructor(latencies),
        };
        let (verb, path) = ("POST", "/mutate");
        drop(metrics.count.get_or_create(&Answered { verb, path, code: 200 }));
        drop(metrics.latencies.get_or_create(&Asked { verb, path }));
        registry.register("http_request_count", "Requests by method, path and status", metrics.count.clone());
        registry.register(
            "http_request_latencies",
            "Time from a request's head to its answer, in microseconds",
            metrics.latencies.clone(),
        );
        metrics
    }

    pub(super) fn of(&self, method: &Method, path: &str) -> OneRequest<'_> {
        let verb = match *method {
            Method::POST => "POST",
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            _ => "other",
        };
        OneRequest {
            metrics: self,
            asked: Asked { verb, path: Route::of(path).map_or("other", |(path, _)| path) },
        }
    }
}

impl OneRequest<'_> {
    pub(super) fn count(self, status: u16, code: &'static str, took: Duration) {
        let Self { metrics, asked: Asked { verb, path } } = self;
        metrics.http.count(status, code, took);
        metrics.count.get_or_create(&Answered { verb, path, code: status }).inc();
        metrics.latencies.get_or_create(&Asked { verb, path }).observe(took.as_secs_f64() * 1e6);
    }
}
