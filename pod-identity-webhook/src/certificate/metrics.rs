//! What is counted of the certificate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use pod_identity_runtime::metrics::register_gauge;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::lease::Leadership;

/// Labels of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Ended {
    /// What was to be done.
    pub(super) step: &'static str,
    /// How it ended: `ok`, `conflict` where another replica was faster, `error`.
    pub(super) outcome: &'static str,
}

/// Metrics of one certificate.
#[derive(Debug)]
pub(super) struct Metrics {
    steps: Family<Ended, Counter>,
    expires: Arc<AtomicU64>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry, leadership: Leadership) -> Self {
        let (steps, expires) = (Family::default(), Arc::new(AtomicU64::new(0)));
        registry.register(
            "pod_identity_webhook_certificate_steps",
            "Steps of the certificate's rotation, and repairs of the caBundle, by how they ended",
            steps.clone(),
        );
        let read = expires.clone();
        register_gauge(
            registry,
            "pod_identity_webhook_certificate_expires_seconds",
            "When the certificate that is served expires, and its authority with it, in seconds since 1970",
            move || Some(read.load(Ordering::Relaxed)).filter(|expires| *expires > 0),
        );
        register_gauge(
            registry,
            "pod_identity_webhook_certificate_leader",
            "Whether this replica rotates the certificate",
            move || Some(u64::from(leadership.holds())),
        );
        Self { steps, expires }
    }

    pub(super) fn count(&self, step: Ended) {
        self.steps.get_or_create(&step).inc();
    }

    pub(super) fn serves_until(&self, expires: SystemTime) {
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.expires.store(expires.as_secs(), Ordering::Relaxed);
    }
}
