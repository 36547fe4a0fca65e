//! Metrics of reviews.

use std::collections::BTreeSet;

use pod_identity_core::inject::{InjectionOutcome, Method, WarningReason};
use pod_identity_runtime::metrics::ByLabel;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The pod cannot be read.
pub(super) const UNREADABLE: &str = "unreadable";
/// The review is not of the creation of a pod.
pub(super) const NOT_A_POD: &str = "not_a_pod";
/// The service account has no role.
pub(super) const NO_ROLE: &str = "no_role";
/// The facts about the service account may be outdated.
pub(super) const NOT_FRESH: &str = "not_fresh";

#[derive(Debug)]
pub(super) struct ReviewMetrics {
    reviews: ByLabel<Counter>,
    missed: ByLabel<Counter>,
    refused: ByLabel<Counter>,
    not_fresh: ByLabel<Counter>,
    /// AWS's webhook has the names of these two. They are gauges because the metrics library adds `_total` to the name of a
    /// counter.
    pods: ByLabel<Gauge>,
    used: Gauge,
}

impl ReviewMetrics {
    /// Registers `pod_identity_webhook_reviews_total`, `pod_identity_webhook_missed_total`,
    /// `pod_identity_webhook_refused_total`, `pod_identity_webhook_not_fresh_total`, and AWS's
    /// `pod_identity_webhook_pod_count` and `pod_identity_webhook_used`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        use InjectionOutcome::{Injected, Missed, NoRole};
        let outcomes = InjectionOutcome::ALL.map(InjectionOutcome::as_str);
        let missed = WarningReason::MISSED.into_iter().chain([UNREADABLE]);
        let metrics = Self {
            reviews: ByLabel::new("outcome", outcomes.into_iter().chain([UNREADABLE, NOT_A_POD])),
            refused: ByLabel::new("reason", missed.clone().chain([NO_ROLE])),
            missed: ByLabel::new("reason", missed),
            not_fresh: ByLabel::new("outcome", [Injected, Missed, NoRole].map(InjectionOutcome::as_str)),
            pods: ByLabel::new("method", Method::ALL.map(Method::as_str)),
            used: Gauge::default(),
        };
        metrics.reviews.register(registry, "pod_identity_webhook_reviews", "Reviews by outcome");
        metrics.missed.register(
            registry,
            "pod_identity_webhook_missed",
            "Pods admitted without credentials that they should have, by reason",
        );
        metrics.refused.register(
            registry,
            "pod_identity_webhook_refused",
            "Pods refused because their label or that of their namespace requires injection, by reason",
        );
        metrics.not_fresh.register(
            registry,
            "pod_identity_webhook_not_fresh",
            "Pods admitted by earlier data of their service account, by outcome",
        );
        metrics.pods.register(registry, "pod_identity_webhook_pod_count", "Injected pods by method");
        registry.register(
            "pod_identity_webhook_used",
            "1 after the first injected pod",
            metrics.used.clone(),
        );
        metrics
    }

    pub(super) fn reviewed(&self, outcome: &'static str) {
        self.reviews.of(outcome).inc();
    }

    pub(super) fn missed(&self, reason: &'static str) {
        self.missed.of(reason).inc();
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.of(reason).inc();
    }

    pub(super) fn not_fresh(&self, outcome: &'static str) {
        self.not_fresh.of(outcome).inc();
    }

    pub(super) fn injected(&self, methods: &BTreeSet<Method>) {
        for method in methods {
            self.pods.of(method.as_str()).inc();
        }
        self.used.set(1);
    }
}
