//! What became of reviews: how many, by which way, and why not. Each is there from the start, as 0, so that an
//! alarm sees the first.

use std::collections::BTreeSet;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::require::NO_ROLE;
use pod_identity_core::inject::{InjectionOutcome, Method, WarningReason};

/// A pod cannot be read.
pub(super) const UNREADABLE: &str = "unreadable";
/// Something that is no pod about to be created.
pub(super) const NOT_A_POD: &str = "not_a_pod";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMethod {
    method: &'static str,
}

#[derive(Debug)]
pub(super) struct ReviewMetrics {
    reviews: Family<ByOutcome, Counter>,
    missed: Family<ByReason, Counter>,
    refused: Family<ByReason, Counter>,
    not_fresh: Family<ByOutcome, Counter>,
    /// AWS's webhook names these. They are gauges to the metrics library: what it calls a counter gets the end
    /// `_total`, and would have another name than there.
    pods: Family<ByMethod, Gauge>,
    used: Gauge,
}

impl ReviewMetrics {
    /// Registers `pod_identity_webhook_reviews_total`, `pod_identity_webhook_missed_total`,
    /// `pod_identity_webhook_refused_total`, `pod_identity_webhook_not_fresh_total`, and AWS's
    /// `pod_identity_webhook_pod_count` and `pod_identity_webhook_used`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            missed: Family::default(),
            refused: Family::default(),
            not_fresh: Family::default(),
            pods: Family::default(),
            used: Gauge::default(),
        };
        for outcome in
            InjectionOutcome::ALL.map(InjectionOutcome::as_str).into_iter().chain([UNREADABLE, NOT_A_POD])
        {
            drop(metrics.reviews.get_or_create(&ByOutcome { outcome }));
        }
        for reason in WarningReason::MISSED.into_iter().chain([UNREADABLE]) {
            drop(metrics.missed.get_or_create(&ByReason { reason }));
            drop(metrics.refused.get_or_create(&ByReason { reason }));
        }
        drop(metrics.refused.get_or_create(&ByReason { reason: NO_ROLE }));
        for outcome in [InjectionOutcome::Injected, InjectionOutcome::Missed, InjectionOutcome::NoRole]
            .map(InjectionOutcome::as_str)
        {
            drop(metrics.not_fresh.get_or_create(&ByOutcome { outcome }));
        }
        for method in Method::ALL.map(Method::as_str) {
            drop(metrics.pods.get_or_create(&ByMethod { method }));
        }
        registry.register(
            "pod_identity_webhook_reviews",
            "Reviews, by what became of the pod",
            metrics.reviews.clone(),
        );
        registry.register(
            "pod_identity_webhook_missed",
            "Pods let in without credentials that they should have, by reason",
            metrics.missed.clone(),
        );
        registry.register(
            "pod_identity_webhook_refused",
            "Pods kept out because they or their namespace require it, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "pod_identity_webhook_not_fresh",
            "Pods let in by what was known before, by what became of them",
            metrics.not_fresh.clone(),
        );
        registry.register(
            "pod_identity_webhook_pod_count",
            "Pods that were injected, by method",
            metrics.pods.clone(),
        );
        registry.register("pod_identity_webhook_used", "1 once a pod was injected", metrics.used.clone());
        metrics
    }

    pub(super) fn reviewed(&self, outcome: &'static str) {
        self.reviews.get_or_create(&ByOutcome { outcome }).inc();
    }

    pub(super) fn missed(&self, reason: &'static str) {
        self.missed.get_or_create(&ByReason { reason }).inc();
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ByReason { reason }).inc();
    }

    pub(super) fn not_fresh(&self, outcome: &'static str) {
        self.not_fresh.get_or_create(&ByOutcome { outcome }).inc();
    }

    pub(super) fn injected(&self, methods: &BTreeSet<Method>) {
        for method in methods {
            self.pods.get_or_create(&ByMethod { method: method.as_str() }).inc();
        }
        self.used.set(1);
    }
}
