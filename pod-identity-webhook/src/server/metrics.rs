//! How many requests there were, and how fast they were answered: under this project's names, and under those
//! of AWS's webhook.

use std::time::Instant;

use http::Method;
use pod_identity_runtime::clock;
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

/// The code of a request that has no answer, since whoever asked hung up: an API server whose `timeoutSeconds` are
/// over, for one.
const HUNG_UP: &str = "hung_up";
/// What stands for the status of such an answer, as in the logs of nginx (`NGX_HTTP_CLIENT_CLOSED_REQUEST`). Nobody
/// is sent it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Counts one request: as one that nobody waited for, when it is dropped before it was answered.
#[derive(Debug)]
pub(super) struct OneRequest<'a> {
    metrics: &'a RequestMetrics,
    asked: Asked,
    started: Instant,
    answered: bool,
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

    /// A request that came at `started`.
    pub(super) fn of(&self, method: &Method, path: &str, started: Instant) -> OneRequest<'_> {
        let verb = match *method {
            Method::POST => "POST",
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            _ => "other",
        };
        OneRequest {
            metrics: self,
            asked: Asked { verb, path: Route::of(path).map_or("other", |(path, _)| path) },
            started,
            answered: false,
        }
    }
}

impl OneRequest<'_> {
    /// It is answered.
    pub(super) fn count(mut self, status: u16, code: &'static str) {
        self.answered = true;
        self.add(status, code);
    }

    fn add(&self, status: u16, code: &'static str) {
        let Self { metrics, asked: Asked { verb, path }, started, .. } = self;
        let (verb, path, took) = (*verb, *path, clock::monotonic().saturating_duration_since(*started));
        metrics.http.count(status, code, took);
        metrics.count.get_or_create(&Answered { verb, path, code: status }).inc();
        metrics.latencies.get_or_create(&Asked { verb, path }).observe(took.as_secs_f64() * 1e6);
    }
}

impl Drop for OneRequest<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.add(CLIENT_CLOSED_REQUEST, HUNG_UP);
        }
    }
}
