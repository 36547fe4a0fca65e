//! How many sessions were given, from where, and how many there are.

use std::sync::Arc;

use pod_identity_core::cache::Origin;
use pod_identity_runtime::metrics::register_gauge;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Cache;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Source {
    source: &'static str,
}

#[derive(Debug)]
pub(super) struct SessionMetrics {
    given: Family<Source, Counter>,
    waiting: Gauge,
}

/// A request that waits. It counts until it is dropped: one that hangs up waits no more.
#[derive(Debug)]
pub(super) struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl SessionMetrics {
    /// Registers `pod_identity_sessions_total` and, where there is a cache,
    /// `pod_identity_sessions_waiting` and `pod_identity_session_cache_entries`.
    pub(super) fn register(registry: &mut Registry, cache: Option<Arc<Cache>>) -> Self {
        let given = Family::default();
        registry.register(
            "pod_identity_sessions",
            "Sessions given to pods, by where they came from",
            given.clone(),
        );
        let waiting = Gauge::default();
        if let Some(cache) = cache {
            registry.register(
                "pod_identity_sessions_waiting",
                "Requests that wait for a session",
                waiting.clone(),
            );
            let name = "pod_identity_session_cache_entries";
            register_gauge(registry, name, "Sessions that are kept", move || Some(cache.len()));
        }
        Self { given, waiting }
    }

    pub(super) fn count(&self, origin: Origin) {
        self.given.get_or_create(&Source { source: origin.as_str() }).inc();
    }

    /// Counts one more that waits.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }
}
