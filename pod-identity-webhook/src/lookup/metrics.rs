//! Metrics of reads and lookups.

use std::time::Duration;

use pod_identity_runtime::metrics::ByLabel;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::failure::ReadFailure;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileRead {
    file: &'static str,
    result: &'static str,
}

/// Reads of files.
#[derive(Debug, Clone)]
pub(super) struct FileMetrics {
    reads: Family<FileRead, Counter>,
    stale: ByLabel<Gauge>,
}

impl FileMetrics {
    /// Registers `pod_identity_file_reads_total` and `pod_identity_file_stale`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { reads: Family::default(), stale: ByLabel::new("file", []) };
        registry.register(
            "pod_identity_file_reads",
            "Reads of a file, by file and result",
            metrics.reads.clone(),
        );
        metrics.stale.register(
            registry,
            "pod_identity_file_stale",
            "1 while a file cannot be used and its last usable content is in use",
        );
        metrics
    }

    pub(super) fn read(&self, file: &'static str, succeeded: bool) {
        let result = if succeeded { "ok" } else { "failed" };
        self.reads.get_or_create(&FileRead { file, result }).inc();
        self.stale.of(file).set(i64::from(!succeeded));
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectRead {
    object: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByObject {
    object: &'static str,
}

/// Reads of the API server.
#[derive(Debug)]
pub(super) struct ReadMetrics {
    reads: Family<ObjectRead, Counter>,
    seconds: Family<ByObject, Histogram, fn() -> Histogram>,
}

/// Reads of one kind of object.
#[derive(Debug)]
pub(super) struct ObjectReadMetrics {
    object: &'static str,
    reads: Family<ObjectRead, Counter>,
    succeeded: Counter,
    seconds: Histogram,
}

impl ReadMetrics {
    /// Registers `pod_identity_api_reads_total` and `pod_identity_api_read_seconds`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        // From a read on an idle control plane to the deadline.
        let buckets: fn() -> Histogram =
            || Histogram::new([0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]);
        let metrics = Self { reads: Family::default(), seconds: Family::new_with_constructor(buckets) };
        registry.register(
            "pod_identity_api_reads",
            "Reads of the API server for reviews, by object and result",
            metrics.reads.clone(),
        );
        registry.register(
            "pod_identity_api_read_seconds",
            "Duration of reads of the API server, in seconds",
            metrics.seconds.clone(),
        );
        metrics
    }

    /// Returns the metrics of one kind of object.
    pub(super) fn of(&self, object: &'static str) -> ObjectReadMetrics {
        ObjectReadMetrics {
            object,
            reads: self.reads.clone(),
            succeeded: self.reads.get_or_create_owned(&ObjectRead { object, result: "ok" }),
            seconds: self.seconds.get_or_create_owned(&ByObject { object }),
        }
    }
}

impl ObjectReadMetrics {
    pub(super) fn count(&self, failure: Option<&ReadFailure>, took: Duration) {
        match failure.map(ReadFailure::as_str) {
            None => self.succeeded.inc(),
            Some(result) => self.reads.get_or_create(&ObjectRead { object: self.object, result }).inc(),
        };
        self.seconds.observe(took.as_secs_f64());
    }
}

/// Lookups of service accounts by the source of the result.
#[derive(Debug)]
pub(super) struct LookupMetrics {
    pub(super) read: Counter,
    pub(super) watch: Counter,
    pub(super) none: Counter,
}

impl LookupMetrics {
    /// Registers `pod_identity_service_account_lookups_total`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let lookups = ByLabel::<Counter>::new("source", ["read", "watch", "none"]);
        lookups.register(
            registry,
            "pod_identity_service_account_lookups",
            "Lookups of service accounts for reviews, by the source of the result",
        );
        Self { read: lookups.of("read"), watch: lookups.of("watch"), none: lookups.of("none") }
    }
}

/// Registers `pod_identity_watch_failures_total`.
pub(super) fn register_watch_failures(registry: &mut Registry) -> ByLabel<Counter> {
    let failures = ByLabel::new("reason", []);
    failures.register(
        registry,
        "pod_identity_watch_failures",
        "Interruptions of the watch of service accounts, by reason",
    );
    failures
}
