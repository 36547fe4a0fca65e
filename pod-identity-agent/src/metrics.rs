//! Metrics of EKS Auth calls.

use pod_identity_core::service::{CredentialError, CredentialService};
use pod_identity_runtime::metrics::{register_counter, register_counters, register_gauge};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::keys::KeysInUse;

/// Label of a call: its error code, or `ok`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    code: &'static str,
}

/// Counts the calls to EKS Auth by their outcome.
#[derive(Debug, Clone, Default)]
pub struct CallCounter(Family<CallLabels, Counter>);

impl CallCounter {
    /// Registers `pod_identity_eks_auth_attempts_total`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Attempts of calls to EKS Auth, by error code or ok";
        registry.register("pod_identity_eks_auth_attempts", help, self.0.clone());
    }

    /// Starts to count a call. A call that its deadline cancels counts as `upstream_unavailable`.
    pub(crate) fn call(&self) -> CountedCall<'_> {
        CountedCall { counter: self, code: "upstream_unavailable" }
    }
}

/// A call, counted when it is dropped.
#[derive(Debug)]
pub(crate) struct CountedCall<'a> {
    counter: &'a CallCounter,
    code: &'static str,
}

impl CountedCall<'_> {
    /// Sets the outcome.
    pub(crate) fn ended(mut self, error: Option<&CredentialError>) {
        self.code = error.map_or("ok", |error| error.code().as_str());
    }
}

impl Drop for CountedCall<'_> {
    fn drop(&mut self) {
        self.counter.0.get_or_create(&CallLabels { code: self.code }).inc();
    }
}

/// Registers `pod_identity_eks_auth_...`, `pod_identity_renewals_total` and `pod_identity_tokens_judged_by_keys`.
pub(crate) fn register(service: &CredentialService, keys: KeysInUse, registry: &mut Registry) {
    keys.register(registry);
    let of_calls = service.clone();
    register_gauge(
        registry,
        "pod_identity_eks_auth_in_flight",
        "Calls in flight for requests, without those that wait for a permit",
        move || i64::try_from(of_calls.statistics().in_flight).ok(),
    );
    let of_waiting = service.clone();
    register_gauge(
        registry,
        "pod_identity_eks_auth_waiting",
        "Calls for requests that wait for a permit",
        move || i64::try_from(of_waiting.statistics().waiting).ok(),
    );
    let of_rate = service.clone();
    register_gauge(
        registry,
        "pod_identity_eks_auth_rate_limit",
        "Calls per second while EKS Auth throttles this node; absent otherwise",
        move || of_rate.statistics().rate_limit,
    );
    let of_crowded = service.clone();
    register_counter(
        registry,
        "pod_identity_eks_auth_crowded",
        "Requests refused because too many requests of their peer wait with unverified tokens",
        move || of_crowded.statistics().queue_full,
    );
    let of_renewals = service.clone();
    register_counters(
        registry,
        "pod_identity_renewals",
        "Renewals of credentials before their expiry, by error code or ok",
        move || {
            let renewals = of_renewals.statistics().renewals;
            renewals.into_iter().map(|(code, count)| (CallLabels { code }, count)).collect()
        },
    );
    register_gauge(
        registry,
        "pod_identity_tokens_judged_by_keys",
        "1 while tokens are verified with the issuer's keys, 0 while EKS Auth verifies them",
        move || Some(i64::from(keys.verification().has_keys())),
    );
}
