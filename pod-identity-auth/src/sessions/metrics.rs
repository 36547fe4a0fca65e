//! How many sessions were given, from where, and how many there are.

use std::sync::Arc;

use pod_identity_core::cache::Origin;
use pod_identity_runtime::metrics::register_gauge;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
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
            let name = "pod_identity_session_cache_entries";
            register_gauge(registry, name, "Sessions that are kept", move || Some(cache.len()));
        }
        Self(given)
    }

    pub(super) fn count(&self, origin: Origin) {
        self.0.get_or_create(&Source { source: origin.as_str() }).inc();
    }
}
