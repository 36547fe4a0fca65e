//! Upstream calls within their limits, with retries.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::limit::{Call, CreditHold, Limits, Peer, QueuedCall, Renewal};
use super::{Clock, CredentialError, ServiceConfig};
use crate::backoff::{Backoff, random_fraction};
use crate::credentials::SessionCredentials;
use crate::error::{ErrorCode, UpstreamError};
use crate::sync::{AtomicU64, Mutex, lock};

/// Pauses between attempts. With the usual second of SDKs they would add up to three seconds. The SDK for Java waits
/// for one second, the SDK for Python for two. Their users would see a timeout instead of the cause.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));

type Issued = Result<SessionCredentials, CredentialError>;

/// The calls to the credential source.
#[derive(Debug)]
pub(super) struct Upstream {
    limits: Limits,
    clock: Clock,
    deadline: Duration,
    attempts: u32,
    queue_full: AtomicU64,
    renewals: Mutex<BTreeMap<&'static str, u64>>,
}

/// Counters and gauges of a service's upstream calls.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Statistics {
    /// Pods with cached credentials.
    pub cached: usize,
    /// Calls for requests in progress.
    pub in_flight: usize,
    /// Requests that wait for a credit, a permit or the rate limit.
    pub waiting: usize,
    /// Maximum calls per second while the upstream requests fewer calls.
    pub rate_limit: Option<f64>,
    /// Requests that were refused because the queue of their peer was full.
    pub queue_full: u64,
    /// Renewals by error code, or `ok`.
    pub renewals: BTreeMap<&'static str, u64>,
}

impl Upstream {
    pub(super) fn new(config: &ServiceConfig, clock: Clock) -> Self {
        Self {
            limits: Limits::new(config.limits),
            clock,
            deadline: config.fetch_deadline,
            attempts: config.attempts,
            queue_full: AtomicU64::new(0),
            renewals: Mutex::default(),
        }
    }

    pub(super) fn statistics(&self, cached: usize) -> Statistics {
        Statistics {
            cached,
            in_flight: self.limits.in_flight(),
            waiting: self.limits.waiting(),
            rate_limit: self.limits.rate_limit(self.monotonic()),
            queue_full: self.queue_full.load(Ordering::Relaxed),
            renewals: lock(&self.renewals).clone(),
        }
    }

    /// Queues a call. The queue of verified pods has no limit. For any other token, the queue of the peer may be full.
    pub(super) fn enqueue(&self, peer: Peer, verified: bool) -> Result<QueuedCall, CredentialError> {
        if verified {
            return Ok(self.limits.accepted());
        }
        self.limits.unaccepted(peer).map_err(|_| {
            self.queue_full.fetch_add(1, Ordering::Relaxed);
            CredentialError::new(
                ErrorCode::Throttled,
                "too many unverified tokens of this address are waiting",
            )
        })
    }

    /// Makes a call for waiting requests, with retries. Also returns the credit of the peer if the token was refused:
    /// [`hold_credit`](Self::hold_credit) it.
    pub(super) async fn call<F: Future<Output = Issued>>(
        &self,
        queued: QueuedCall,
        call: impl Fn() -> F,
    ) -> (Issued, Option<CreditHold>) {
        let permit = queued.call().await;
        let issued = self.attempts(&permit, call).await;
        let effect = issued.as_ref().err().map(UpstreamError::effect);
        let credit_hold = permit.end(effect, self.monotonic());
        (issued, credit_hold)
    }

    /// Holds the credit of a refused token until its time.
    pub(super) async fn hold_credit(&self, credit_hold: Option<CreditHold>) {
        if let Some(credit_hold) = credit_hold {
            tokio::time::sleep(credit_hold.until().saturating_sub(self.monotonic())).await;
        }
    }

    async fn attempts<F: Future<Output = Issued>>(&self, permit: &Call, call: impl Fn() -> F) -> Issued {
        let until = self.monotonic().saturating_add(self.deadline);
        let mut failures = 0;
        let mut last = None;
        loop {
            let turn = permit.turn(until, || self.monotonic(), |pause| self.clock.sleep(pause));
            let began = match self.within(until, turn).await {
                Some(Ok(began)) => began,
                // The error of the last attempt is more useful than the error that no further attempt is possible.
                other => {
                    let at = other.and_then(Result::err).map(|throttled| throttled.until);
                    let pause = at.unwrap_or_default().saturating_sub(self.monotonic());
                    return Err(last.unwrap_or_else(|| paused(pause)));
                }
            };
            let error = match self.attempt(began, until, call()).await {
                Ok(issued) => return Ok(issued),
                Err(error) => error,
            };
            failures += 1;
            if failures >= self.attempts || !error.is_attempted_again() {
                return Err(error);
            }
            tokio::time::sleep(PAUSES.full_jitter(failures, random_fraction())).await;
            last = Some(error);
        }
    }

    async fn attempt(&self, began: Duration, until: Duration, call: impl Future<Output = Issued>) -> Issued {
        let issued = self.within(until, call).await.unwrap_or_else(|| {
            let seconds = self.deadline.as_secs_f32();
            Err(CredentialError::unavailable(format!("the upstream sent no response within {seconds} s")))
        });
        if let Err(error) = &issued
            && error.slows_down()
        {
            self.limits.throttled(began, error.requested_pause(), self.monotonic());
        }
        issued
    }

    /// Returns the error of a request that waited until its deadline.
    pub(super) fn not_yet(&self, waited: Duration) -> CredentialError {
        match self.limits.pause(self.monotonic()) {
            Some(pause) => paused(pause),
            None => CredentialError::unavailable(format!(
                "the upstream sent no response within {} s; the call goes on",
                waited.as_secs_f32()
            )),
        }
    }

    /// Takes a permit for one renewal, if there is one now.
    pub(super) fn renewal(&self, entries: usize, lifetime: Duration) -> Option<Renewal> {
        self.limits.renewal(entries, lifetime, self.monotonic())
    }

    /// Makes the call of a renewal, without retries. The cache decides when to try again.
    pub(super) async fn renew(&self, renewal: Renewal, call: impl Future<Output = Issued>) -> Issued {
        let until = renewal.began().saturating_add(self.deadline);
        let issued = self.attempt(renewal.began(), until, call).await;
        let code = issued.as_ref().map_or_else(|error| error.code().as_str(), |_| "ok");
        *lock(&self.renewals).entry(code).or_default() += 1;
        issued
    }

    /// Removes peers without calls.
    pub(super) fn sweep(&self) {
        self.limits.sweep();
    }

    fn monotonic(&self) -> Duration {
        self.clock.now().monotonic
    }

    async fn within<F: Future>(&self, until: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(until.saturating_sub(self.monotonic()), future).await.ok()
    }
}

fn paused(pause: Duration) -> CredentialError {
    let message = "the upstream requests fewer calls than this service makes";
    CredentialError::new(ErrorCode::Throttled, message).with_retry_after(Some(pause))
}
