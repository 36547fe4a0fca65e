//! What was read, and what was not.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::failure::ReadFailure;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFile {
    file: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reading {
    file: &'static str,
    result: &'static str,
}

/// The readings of files.
#[derive(Debug, Clone)]
pub(super) struct FileMetrics {
    readings: Family<Reading, Counter>,
    stale: Family<OfFile, Gauge>,
}

impl FileMetrics {
    /// Registers `pod_identity_file_reads_total` and `pod_identity_file_stale`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { readings: Family::default(), stale: Family::default() };
        registry.register(
            "pod_identity_file_reads",
            "Readings of a file, by file and result",
            metrics.readings.clone(),
        );
        registry.register(
            "pod_identity_file_stale",
            "1 where a file cannot be used as it is, and what it held before is in use",
            metrics.stale.clone(),
        );
        metrics
    }

    pub(super) fn read(&self, file: &'static str, succeeded: bool) {
        let result = if succeeded { "ok" } else { "failed" };
        self.readings.get_or_create(&Reading { file, result }).inc();
        self.stale.get_or_create(&OfFile { file }).set(i64::from(!succeeded));
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Read {
    object: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfObject {
    object: &'static str,
}

/// The reads of the API server.
#[derive(Debug, Clone)]
pub(super) struct ReadMetrics {
    object: &'static str,
    reads: Family<Read, Counter>,
    seconds: Family<OfObject, Histogram, fn() -> Histogram>,
}

impl ReadMetrics {
    /// Registers `pod_identity_api_reads_total` and `pod_identity_api_read_seconds`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        // From a read on an idle control plane to the deadline.
        let seconds: fn() -> Histogram =
            || Histogram::new([0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]);
        let metrics =
            Self { object: "", reads: Family::default(), seconds: Family::new_with_constructor(seconds) };
        registry.register(
            "pod_identity_api_reads",
            "Reads of the API server for reviews, by object and result",
            metrics.reads.clone(),
        );
        registry.register(
            "pod_identity_api_read_seconds",
            "How long reads of the API server took, in seconds",
            metrics.seconds.clone(),
        );
        metrics
    }

    /// Those of one kind of objects; there from the start, so that a rate can be told from the first read on.
    pub(super) fn of(&self, object: &'static str) -> Self {
        drop(self.reads.get_or_create(&Read { object, result: "ok" }));
        drop(self.seconds.get_or_create(&OfObject { object }));
        Self { object, ..self.clone() }
    }

    pub(super) fn read(&self, failure: Option<&ReadFailure>, took: Duration) {
        let result = failure.map_or("ok", ReadFailure::as_str);
        self.reads.get_or_create(&Read { object: self.object, result }).inc();
        self.seconds.get_or_create(&OfObject { object: self.object }).observe(took.as_secs_f64());
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnsweredBy {
    source: &'static str,
}

/// What reviews were answered by.
#[derive(Debug, Clone)]
pub(super) struct AnswerMetrics(Family<AnsweredBy, Counter>);

impl AnswerMetrics {
    /// Registers `pod_identity_account_answers_total`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let answers = Self(Family::default());
        registry.register(
            "pod_identity_account_answers",
            "Reviews that asked for a service account, by what answered them",
            answers.0.clone(),
        );
        for source in ["read", "watch", "nothing"] {
            drop(answers.0.get_or_create(&AnsweredBy { source }));
        }
        answers
    }

    pub(super) fn count(&self, source: &'static str) {
        self.0.get_or_create(&AnsweredBy { source }).inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    reason: &'static str,
}

/// How the watch fares.
#[derive(Debug, Clone)]
pub(super) struct WatchMetrics {
    failures: Family<Failed, Counter>,
}

impl WatchMetrics {
    /// Registers `pod_identity_watch_failures_total`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { failures: Family::default() };
        registry.register(
            "pod_identity_watch_failures",
            "Interruptions of the watch of service accounts, by reason",
            metrics.failures.clone(),
        );
        metrics
    }

    pub(super) fn failed(&self, failure: &ReadFailure) {
        self.failures.get_or_create(&Failed { reason: failure.as_str() }).inc();
    }
}
