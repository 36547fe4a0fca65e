//! Metrics of the certificate.

use std::time::UNIX_EPOCH;

use pod_identity_runtime::metrics::register_gauge;
use pod_identity_runtime::tls::ServerTls;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::store::Failure;
use crate::lease::Leadership;

/// Labels of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Ended {
    /// What was to be done.
    pub(super) step: &'static str,
    /// How it ended: `ok`, `conflict` where another replica was faster, `error`.
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failed {
    reason: &'static str,
}

/// Metrics of a certificate of the webhook's own.
#[derive(Debug)]
pub(super) struct Metrics {
    steps: Family<Ended, Counter>,
    failures: Family<Failed, Counter>,
}

/// Registers `pod_identity_webhook_certificate_expires_seconds`, for every source of the certificate.
pub(super) fn register_expiry(registry: &mut Registry, tls: ServerTls) {
    register_gauge(
        registry,
        "pod_identity_webhook_certificate_expires_seconds",
        "Time at which the served certificate expires, in seconds since 1970",
        move || Some(tls.validity()?.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
    );
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry, leadership: Leadership) -> Self {
        let (steps, failures) = (Family::default(), Family::<Failed, Counter>::default());
        registry.register(
            "pod_identity_webhook_certificate_steps",
            "Steps of the certificate's rotation, and repairs of the caBundle, by how they ended",
            steps.clone(),
        );
        registry.register(
            "pod_identity_webhook_certificate_failures",
            "Failed attempts to keep the certificate, one every few seconds while a fault lasts, by reason",
            failures.clone(),
        );
        for reason in Failure::ALL {
            drop(failures.get_or_create(&Failed { reason }));
        }
        register_gauge(
            registry,
            "pod_identity_webhook_certificate_leader",
            "Whether this replica rotates the certificate",
            move || Some(u64::from(leadership.holds())),
        );
        Self { steps, failures }
    }

    pub(super) fn count(&self, step: Ended) {
        self.steps.get_or_create(&step).inc();
    }

    pub(super) fn failed(&self, failure: &Failure) {
        self.failures.get_or_create(&Failed { reason: failure.as_str() }).inc();
    }
}
