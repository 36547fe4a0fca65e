//! What was read, and what was not.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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
