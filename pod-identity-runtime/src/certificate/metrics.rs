//! Metrics of the rotation.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::failure::CertificateFailure;

/// Labels of a step that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StepLabels {
    pub(super) step: &'static str,
    /// `ok`, `conflict` if another replica was faster, or `error`.
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    reason: &'static str,
}

/// Metrics of the rotation.
#[derive(Debug)]
pub(super) struct Metrics {
    steps: Family<StepLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
}

impl Metrics {
    /// Registers `certificate_steps_total` and `certificate_failures_total`, with the prefix of the registry.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (steps, failures) =
            (Family::<StepLabels, Counter>::default(), Family::<FailureLabels, Counter>::default());
        registry.register(
            "certificate_steps",
            "Steps of the certificate's rotation, and repairs of overwritten bundles, by outcome",
            steps.clone(),
        );
        registry.register(
            "certificate_failures",
            "Failed attempts to rotate the certificate, one every few seconds while a fault lasts, by reason",
            failures.clone(),
        );
        for step in ["make", "publish", "settle", "repair", "trim"] {
            drop(steps.get_or_create(&StepLabels { step, outcome: "ok" }));
        }
        for reason in CertificateFailure::labels() {
            drop(failures.get_or_create(&FailureLabels { reason }));
        }
        Self { steps, failures }
    }

    pub(super) fn step(&self, step: StepLabels) {
        self.steps.get_or_create(&step).inc();
    }

    pub(super) fn failure(&self, failure: &CertificateFailure) {
        self.failures.get_or_create(&FailureLabels { reason: failure.as_str() }).inc();
    }
}
