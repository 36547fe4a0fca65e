//! Metrics of requests: under this project's names, and under those of AWS's webhook.

use std::time::Instant;

use http::Method;
use pod_identity_runtime::clock;
use pod_identity_runtime::metrics::HttpMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::route::Route;

/// Labels of a request. A client cannot choose their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    path: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    verb: &'static str,
    path: &'static str,
    code: u16,
}

#[derive(Debug)]
pub(super) struct RequestMetrics {
    http: HttpMetrics,
    /// A gauge because the metrics library adds `_total` to the name of a counter.
    count: Family<ResponseLabels, Gauge>,
    latencies: Family<RequestLabels, Histogram, fn() -> Histogram>,
    /// The series of most requests, held by path: those of `POST` with status 200.
    reviews: Vec<(&'static str, Gauge, Histogram)>,
}

/// The code of a request without a response because the client closed the connection, for example an API server after its
/// `timeoutSeconds`.
const CANCELLED: &str = "hung_up";
/// The status that metrics show for such a request, as in logs of nginx (`NGX_HTTP_CLIENT_CLOSED_REQUEST`). It is never
/// sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Counts one request when it is finished, or as cancelled when it is dropped before.
#[derive(Debug)]
pub(super) struct RequestInProgress<'a> {
    metrics: &'a RequestMetrics,
    labels: RequestLabels,
    started: Instant,
    finished: bool,
}

impl RequestMetrics {
    /// Registers the metrics of [`HttpMetrics`], and `http_request_count` and `http_request_latencies` of AWS's webhook.
    pub(super) fn register(registry: &mut Registry) -> Self {
        // In microseconds, with the bounds of AWS's webhook: 125 ms to 8 s.
        let buckets: fn() -> Histogram =
            || Histogram::new((0..7).map(|power| 125_000.0 * f64::from(1 << power)));
        let count = Family::<ResponseLabels, Gauge>::default();
        let latencies = Family::<RequestLabels, Histogram, fn() -> Histogram>::new_with_constructor(buckets);
        registry.register("http_request_count", "Requests by method, path and status", count.clone());
        registry.register(
            "http_request_latencies",
            "Time from a request's head to its response, in microseconds",
            latencies.clone(),
        );
        let review = |path| {
            let verb = "POST";
            let count = count.get_or_create_owned(&ResponseLabels { verb, path, code: 200 });
            (path, count, latencies.get_or_create_owned(&RequestLabels { verb, path }))
        };
        let reviews = Route::reviews().map(review).collect();
        Self { http: HttpMetrics::register(registry), count, latencies, reviews }
    }

    /// Begins a request that arrived at `started`.
    pub(super) fn begin(&self, method: &Method, path: &str, started: Instant) -> RequestInProgress<'_> {
        let verb = match *method {
            Method::POST => "POST",
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            _ => "other",
        };
        let path = Route::of(path).map_or("other", |(path, _)| path);
        RequestInProgress { metrics: self, labels: RequestLabels { verb, path }, started, finished: false }
    }

    fn count(&self, labels: RequestLabels, code: u16, micros: f64) {
        let RequestLabels { verb, path } = labels;
        let held = self.reviews.iter().find(|(held, ..)| *held == path && (verb, code) == ("POST", 200));
        match held {
            Some((_, count, latencies)) => {
                count.inc();
                latencies.observe(micros);
            }
            None => {
                self.count.get_or_create(&ResponseLabels { verb, path, code }).inc();
                self.latencies.get_or_create(&labels).observe(micros);
            }
        }
    }
}

impl RequestInProgress<'_> {
    /// Counts the request as finished.
    pub(super) fn finish(mut self, status: u16, code: &'static str) {
        self.finished = true;
        self.count(status, code);
    }

    fn count(&self, status: u16, code: &'static str) {
        let took = clock::monotonic().saturating_duration_since(self.started);
        self.metrics.http.count(status, code, took);
        self.metrics.count(self.labels, status, took.as_secs_f64() * 1e6);
    }
}

impl Drop for RequestInProgress<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.count(CLIENT_CLOSED_REQUEST, CANCELLED);
        }
    }
}
