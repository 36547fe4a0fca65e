//! How the budgets stand, and what came of the calls.

use pod_identity_core::limit::Limits;
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::metrics::register_gauge;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::exchange::ExchangeError;

/// Counts of calls, renewals and refusals.
#[derive(Debug, Default)]
pub(super) struct UpstreamMetrics {
    attempts: Family<Outcome, Counter>,
    renewals: Family<Outcome, Counter>,
    /// Requests that were refused because too many of their peer wait already.
    pub(super) crowded: Counter,
}

/// What came of it: an error code, or `ok`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    code: &'static str,
}

impl Outcome {
    fn of(error: Option<&ExchangeError>) -> Self {
        Self { code: error.map_or("ok", |error| error.code().as_str()) }
    }
}

impl UpstreamMetrics {
    pub(super) fn register(&self, limits: Limits, clock: Clock, registry: &mut Registry) {
        registry.register(
            "pod_identity_eks_auth_attempts",
            "Calls to EKS Auth by error code, each attempt of its own",
            self.attempts.clone(),
        );
        registry.register(
            "pod_identity_eks_auth_crowded",
            "Requests refused because too many tokens of their address wait to be judged",
            self.crowded.clone(),
        );
        registry.register(
            "pod_identity_renewals",
            "Renewals of credentials ahead of their end by error code",
            self.renewals.clone(),
        );
        let of_flights = limits.clone();
        register_gauge(
            registry,
            "pod_identity_eks_auth_in_flight",
            "Fetches of demand under way that wait for no credit, call or turn",
            move || Some(of_flights.in_flight()),
        );
        let of_waiting = limits.clone();
        register_gauge(
            registry,
            "pod_identity_eks_auth_waiting",
            "Fetches of demand that wait for a credit, a call or a turn",
            move || Some(of_waiting.waiting()),
        );
        register_gauge(
            registry,
            "pod_identity_eks_auth_rate_limit",
            "Calls a second, while EKS Auth asks for fewer; else absent",
            move || limits.rate_limit(clock.now().monotonic),
        );
    }

    pub(super) fn count_attempt(&self, error: Option<&ExchangeError>) {
        self.attempts.get_or_create(&Outcome::of(error)).inc();
    }

    pub(super) fn count_renewal(&self, error: Option<&ExchangeError>) {
        self.renewals.get_or_create(&Outcome::of(error)).inc();
    }
}
