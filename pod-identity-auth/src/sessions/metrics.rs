//! Metrics of issued sessions.

use pod_identity_core::service::{CredentialService, Origin};
use pod_identity_runtime::metrics::register_gauge;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
}

/// Counts issued sessions and waiting requests. Clones are the same metrics.
#[derive(Debug, Clone)]
pub struct SessionMetrics {
    issued: Family<SourceLabels, Counter>,
    waiting: Gauge,
}

/// A waiting request. It is counted until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitingRequest(Gauge);

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl SessionMetrics {
    /// Registers `pod_identity_sessions_total` and, for a service with a cache, `pod_identity_sessions_waiting` and
    /// `pod_identity_session_cache_entries`.
    pub(crate) fn register(registry: &mut Registry, cached: Option<CredentialService>) -> Self {
        let issued = Family::default();
        registry.register("pod_identity_sessions", "Sessions issued to pods, by source", issued.clone());
        let waiting = Gauge::default();
        if let Some(service) = cached {
            let help = "Requests that wait for a session";
            registry.register("pod_identity_sessions_waiting", help, waiting.clone());
            let name = "pod_identity_session_cache_entries";
            register_gauge(registry, name, "Pods with an entry in the session cache", move || {
                Some(service.statistics().cached)
            });
        }
        Self { issued, waiting }
    }

    pub(crate) fn count(&self, origin: Origin) {
        self.issued.get_or_create(&SourceLabels { source: origin.as_str() }).inc();
    }

    /// Counts one more waiting request.
    pub(crate) fn waiting(&self) -> WaitingRequest {
        self.waiting.inc();
        WaitingRequest(self.waiting.clone())
    }
}
