//! How many sessions were given, from where, and how many there are.

use std::sync::Arc;

use pod_identity_core::cache::Origin;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Cache;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

#[derive(Debug)]
pub(super) struct SessionMetrics(Family<Source, Counter>);

impl SessionMetrics {
    /// Registers `pod_identity_sessions_total` and, where there is a cache,
    /// `pod_identity_session_cache_entries`.
    pub(super) fn register(registry: &mut Registry, cache: Option<Arc<Cache>>) -> Self {
        let given = Family::default();
        registry.register(
            "pod_identity_sessions",
            "Sessions given to pods, by where they came from",
            given.clone(),
        );
        if let Some(cache) = cache {
            registry.register_collector(Box::new(Entries(cache)));
        }
        Self(given)
    }

    pub(super) fn count(&self, origin: Origin) {
        self.0.get_or_create(&Source { source: origin.as_str() }).inc();
    }
}

/// Counted when it is asked for: the cache knows its size.
#[derive(Debug)]
struct Entries(Arc<Cache>);

impl Collector for Entries {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let entries = ConstGauge::new(i64::try_from(self.0.len()).unwrap_or(i64::MAX));
        let metric = encoder.encode_descriptor(
            "pod_identity_session_cache_entries",
            "Sessions that are kept",
            None,
            entries.metric_type(),
        )?;
        entries.encode(metric)
    }
}
