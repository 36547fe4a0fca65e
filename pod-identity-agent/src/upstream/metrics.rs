//! How the budgets stand, and what came of the calls.

use std::fmt;

use pod_identity_core::limit::Limits;
use pod_identity_runtime::clock::Clock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
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
        registry.register_collector(Box::new(Standing { limits, clock }));
    }

    pub(super) fn count_attempt(&self, error: Option<&ExchangeError>) {
        self.attempts.get_or_create(&Outcome::of(error)).inc();
    }

    pub(super) fn count_renewal(&self, error: Option<&ExchangeError>) {
        self.renewals.get_or_create(&Outcome::of(error)).inc();
    }
}

/// How the budgets stand when somebody looks.
#[derive(Debug)]
struct Standing {
    limits: Limits,
    clock: Clock,
}

impl Collector for Standing {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let Self { limits, clock } = self;
        #[allow(clippy::cast_precision_loss)] // a few thousand at most
        let (in_flight, waiting) = (limits.in_flight() as f64, limits.waiting() as f64);
        gauge(
            "pod_identity_eks_auth_in_flight",
            "Fetches of demand under way that wait for no credit, call or turn",
            in_flight,
        )?;
        gauge(
            "pod_identity_eks_auth_waiting",
            "Fetches of demand that wait for a credit, a call or a turn",
            waiting,
        )?;
        match limits.rate_limit(clock.now().monotonic) {
            Some(rate) => gauge(
                "pod_identity_eks_auth_rate_limit",
                "Calls a second, while EKS Auth asks for fewer; else absent",
                rate,
            ),
            None => Ok(()),
        }
    }
}
