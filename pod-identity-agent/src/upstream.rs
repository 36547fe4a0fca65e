//! Calls to EKS Auth within their budgets: who may call now, and how often a call is repeated.
//!
//! This is the one layer of the agent that repeats: the SDK's own repetitions are off. What
//! `pod-identity-auth` says is never repeated, since it has repeated its own calls to STS already: three
//! attempts here at three there would be nine calls for one request.

mod metrics;
mod peer;

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use pod_identity_core::backoff::{Backoff, random_fraction};
use pod_identity_core::cache::Refusal;
use pod_identity_core::limit::{Budgets, Call, Limits, Place, Renewal};
use pod_identity_core::source::SubjectCredentials;
use pod_identity_runtime::clock::Clock;
use prometheus_client::registry::Registry;

use self::metrics::UpstreamMetrics;
pub use self::peer::LocalAddresses;
use crate::exchange::ExchangeError;

/// How long a fetch may take from when it may call, all attempts together. A fetch goes on when those
/// who waited have gone: its answer is for whoever comes next.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// How often EKS Auth is asked for one fetch, as the SDKs do by default.
const ATTEMPTS: u32 = 3;

/// The pauses between them. With an SDK's usual second they add up to three, and Java has waited for one
/// by then, Python for two: their users would read of a timeout, and not why there are no credentials.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

/// The calls to EKS Auth, within their budgets.
#[derive(Debug)]
pub(crate) struct Upstream {
    limits: Limits,
    local: LocalAddresses,
    metrics: UpstreamMetrics,
    clock: Clock,
}

impl Upstream {
    pub(crate) fn new(budgets: Budgets, local: LocalAddresses, clock: Clock) -> Self {
        Self { limits: Limits::new(budgets), local, metrics: UpstreamMetrics::default(), clock }
    }

    /// Registers `pod_identity_eks_auth_...` and `pod_identity_renewals_total`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.metrics.register(self.limits.clone(), self.clock.clone(), registry);
    }

    /// A place for a token that came from that address.
    ///
    /// # Errors
    /// [`ExchangeError::Crowded`] where too many of it wait already.
    pub(crate) fn place(&self, address: IpAddr, accepted: bool) -> Result<Place, ExchangeError> {
        if accepted {
            return Ok(self.limits.accepted());
        }
        self.limits.unaccepted(self.local.peer(address)).map_err(|_| {
            self.metrics.crowded.inc();
            ExchangeError::Crowded
        })
    }

    /// Makes a call that somebody waits for, once there is room for it, and again where that may help.
    ///
    /// # Errors
    /// [`ExchangeError`] of the last attempt.
    pub(crate) async fn demand<F: Future<Output = Result<SubjectCredentials, ExchangeError>>>(
        &self,
        place: Place,
        ask: impl Fn() -> F,
    ) -> Result<SubjectCredentials, ExchangeError> {
        let call = place.call().await;
        let answer = self.attempts(&call, ask).await;
        let effect = answer.as_ref().err().map(Refusal::effect);
        let now = self.monotonic();
        if let Some(held) = call.end(effect, now) {
            tokio::spawn(async move {
                tokio::time::sleep(held.until().saturating_sub(now)).await;
                drop(held);
            });
        }
        answer
    }

    async fn attempts<F: Future<Output = Result<SubjectCredentials, ExchangeError>>>(
        &self,
        call: &Call,
        ask: impl Fn() -> F,
    ) -> Result<SubjectCredentials, ExchangeError> {
        let until = self.monotonic() + FETCH_DEADLINE;
        let mut failures = 0;
        let mut last = None;
        loop {
            let turn = call.turn(until, || self.monotonic(), |pause| self.clock.sleep(pause));
            let began = match self.within(until, turn).await {
                Some(Ok(began)) => began,
                // Why there is no other turn says more than that there is none.
                other => {
                    let at = other.and_then(Result::err).map(|throttled| throttled.until);
                    let wait = at.unwrap_or_default().saturating_sub(self.monotonic());
                    return Err(last.unwrap_or(ExchangeError::Throttled { retry_after: wait }));
                }
            };
            let error = match self.attempt(began, until, ask()).await {
                Ok(issued) => return Ok(issued),
                Err(error) => error,
            };
            failures += 1;
            if failures == ATTEMPTS || !error.is_worth_another_attempt() {
                return Err(error);
            }
            tokio::time::sleep(PAUSES.full_jitter(failures, random_fraction())).await;
            last = Some(error);
        }
    }

    async fn attempt(
        &self,
        began: Duration,
        until: Duration,
        ask: impl Future<Output = Result<SubjectCredentials, ExchangeError>>,
    ) -> Result<SubjectCredentials, ExchangeError> {
        // What the deadline cuts off was a call too, and is counted.
        let answer = self.within(until, ask).await.unwrap_or_else(|| Err(too_late()));
        self.metrics.count_attempt(answer.as_ref().err());
        if let Err(error) = &answer
            && error.asks_for_fewer_calls()
        {
            self.limits.throttled(began, error.retry_after(), self.monotonic());
        }
        answer
    }

    /// How long it is until EKS Auth may be asked again, where it has asked for a pause.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.limits.pause(self.monotonic())
    }

    /// The right to renew one of that many entries now, where there is one.
    pub(crate) fn renewal(&self, entries: usize, life: Duration) -> Option<Renewal> {
        self.limits.renewal(entries, life, self.monotonic())
    }

    /// Makes the call of a renewal, once: the cache says when to try again.
    ///
    /// # Errors
    /// [`ExchangeError`].
    pub(crate) async fn renew(
        &self,
        renewal: Renewal,
        ask: impl Future<Output = Result<SubjectCredentials, ExchangeError>>,
    ) -> Result<SubjectCredentials, ExchangeError> {
        let until = renewal.began() + FETCH_DEADLINE;
        let answer = self.attempt(renewal.began(), until, ask).await;
        self.metrics.count_renewal(answer.as_ref().err());
        answer
    }

    /// Forgets the peers that have nothing under way.
    pub(crate) fn sweep(&self) {
        self.limits.sweep();
    }

    fn monotonic(&self) -> Duration {
        self.clock.now().monotonic
    }

    async fn within<F: Future>(&self, until: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(until.saturating_sub(self.monotonic()), future).await.ok()
    }
}

fn too_late() -> ExchangeError {
    ExchangeError::Unavailable(format!("no answer within {} s", FETCH_DEADLINE.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::SystemTime;

    use prometheus_client::encoding::text::encode;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_the_deadline_cuts_off_is_counted() {
        let (hand, clock) = Clock::by_hand(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_330_800));
        let local = LocalAddresses::probe(vec![]);
        let (upstream, mut registry) = (Upstream::new(Budgets::default(), local, clock), Registry::default());
        upstream.register(&mut registry);
        hand.advance(Duration::from_secs(1));
        let renewal = upstream.renewal(1, Duration::from_secs(3600)).unwrap();
        let error = upstream.renew(renewal, pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "EKS Auth could not be asked: no answer within 10 s");
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "pod_identity_eks_auth_attempts_total{code=\"upstream_unavailable\"} 1\n",
            "pod_identity_renewals_total{code=\"upstream_unavailable\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
