//! Metrics that every listener has: how many answers, of which kind, how fast.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Labels of an answer. None of them can take a value that a client chooses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The error code; `ok` where there is none.
    pub code: &'static str,
}

/// Answers by status and code, and how long they took.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    answers: Family<Answer, Counter>,
    seconds: Histogram,
}

impl HttpMetrics {
    /// Registers `pod_identity_http_responses_total` and `pod_identity_http_response_seconds`.
    pub fn register(registry: &mut Registry) -> Self {
        let answers = Family::default();
        // From a cached answer to the 10 s that an upstream call may take.
        let seconds = Histogram::new([
            0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ]);
        registry.register(
            "pod_identity_http_responses",
            "Answers by HTTP status and error code",
            answers.clone(),
        );
        registry.register(
            "pod_identity_http_response_seconds",
            "Time from a request's head to its answer, in seconds",
            seconds.clone(),
        );
        Self { answers, seconds }
    }

    /// Counts an answer.
    pub fn count(&self, status: u16, code: &'static str, took: Duration) {
        self.answers.get_or_create(&Answer { status, code }).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
