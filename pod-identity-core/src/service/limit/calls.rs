//! Permits of upstream calls, and their queues.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::UpstreamLimits;
use super::rate::{AdaptiveRate, Turn};
use super::renewal_rate::{RenewalRate, renewals_per_second};
use crate::error::CacheEffect;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, lock};

/// The limits of one upstream. Clones limits the limits.
#[derive(Debug, Clone)]
pub(in crate::service) struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: UpstreamLimits,
    calls: Arc<Semaphore>,
    unaccepted: Arc<Semaphore>,
    renewals: Arc<Semaphore>,
    /// Its one permit is for the next call.
    next_call: Semaphore,
    rate: Mutex<AdaptiveRate>,
    renewal_rate: Mutex<RenewalRate>,
    peers: Mutex<HashMap<Peer, Arc<PeerPermits>>>,
    waiting: AtomicUsize,
    waiting_for_rate: AtomicUsize,
}

/// The network address from which a token came.
///
/// ```
/// use std::net::IpAddr;
///
/// use pod_identity_core::service::Peer;
///
/// assert_eq!(Peer::from(IpAddr::from([192, 0, 2, 1])), Peer::Remote([192, 0, 2, 1].into()));
/// assert_eq!(Peer::from(IpAddr::from([127, 0, 0, 1])), Peer::Local);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// This machine. A pod in the host's network may use any address of the machine, so all of them are one peer.
    Local,
    /// A pod with its own address.
    Remote(IpAddr),
}

/// A loopback address is [`Peer::Local`]. If pods in the host's network reach the server by other addresses of the
/// machine, map those to [`Peer::Local`], too.
impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        if address.to_canonical().is_loopback() { Self::Local } else { Self::Remote(address) }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        address.ip().into()
    }
}

/// The semaphores of a peer.
#[derive(Debug)]
struct PeerPermits {
    credits: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    /// One call of the peer at a time waits for the rate limit, so that peers alternate.
    turn: Semaphore,
}

/// The queue of the peer is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue of this peer is full")]
pub(in crate::service) struct QueueFull;

/// The rate limit allows no call before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upstream requests fewer calls")]
pub(in crate::service) struct Throttled {
    /// Earliest time of the next call, by the monotonic clock.
    pub(in crate::service) until: Duration,
}

/// A call that waits for a permit. It leaves the queue on drop.
#[derive(Debug)]
#[must_use]
pub(in crate::service) struct QueuedCall {
    limits: Limits,
    unaccepted: Option<(Arc<PeerPermits>, OwnedSemaphorePermit)>,
    _waiting: Waiting,
}

/// Permit for one upstream call, released on drop.
#[derive(Debug)]
#[must_use]
pub(in crate::service) struct Call {
    limits: Limits,
    /// Set for an unverified token.
    unaccepted: Option<Unaccepted>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Permits of an unverified token, in addition to that of its call.
#[derive(Debug)]
struct Unaccepted {
    peer_permits: Arc<PeerPermits>,
    credit: Option<OwnedSemaphorePermit>,
    _unaccepted_permit: Option<OwnedSemaphorePermit>,
    _queue_permit: OwnedSemaphorePermit,
}

/// The credit of a refused token. Drop it at its time.
#[derive(Debug)]
#[must_use = "a credit that is dropped at once does not slow down refused tokens"]
pub(in crate::service) struct CreditHold {
    until: Duration,
    _peer: Arc<PeerPermits>,
    _credit: OwnedSemaphorePermit,
}

/// Permit for one renewal, released on drop.
#[derive(Debug)]
#[must_use]
pub(in crate::service) struct Renewal {
    began: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Limits {
    /// Makes limits without calls.
    pub(in crate::service) fn new(config: UpstreamLimits) -> Self {
        Self(Arc::new(Inner {
            config,
            calls: semaphore(config.calls),
            unaccepted: semaphore(config.unaccepted_calls),
            renewals: semaphore(config.renewals),
            next_call: Semaphore::new(1),
            rate: Mutex::default(),
            renewal_rate: Mutex::default(),
            peers: Mutex::default(),
            waiting: AtomicUsize::new(0),
            waiting_for_rate: AtomicUsize::new(0),
        }))
    }

    /// Queues a call for a verified token. The queue has no limit, because the cache makes one call at a time for each
    /// identity.
    pub(in crate::service) fn accepted(&self) -> QueuedCall {
        QueuedCall { limits: self.clone(), unaccepted: None, _waiting: Waiting::new(self, Queue::Permit) }
    }

    /// Queues a call for an unverified token.
    ///
    /// # Errors
    /// [`QueueFull`] if too many requests of the peer wait.
    pub(in crate::service) fn unaccepted(&self, peer: Peer) -> Result<QueuedCall, QueueFull> {
        let peer_permits = self.peer_permits(peer);
        let queue_permit = peer_permits.queue.clone().try_acquire_owned().map_err(|_| QueueFull)?;
        let waiting = Waiting::new(self, Queue::Permit);
        Ok(QueuedCall {
            limits: self.clone(),
            unaccepted: Some((peer_permits, queue_permit)),
            _waiting: waiting,
        })
    }

    /// Returns a permit for one renewal if there is one now. It never waits. While requests wait for the rate limit,
    /// there is no permit, so that requests go first.
    ///
    /// Renewals begin at [`UpstreamLimits::renewals_per_second`]. The rate is higher if many `entries` or a short
    /// `lifetime` need it: twice the rate that renews each entry once in half of its lifetime.
    pub(in crate::service) fn renewal(
        &self,
        entries: usize,
        lifetime: Duration,
        now: Duration,
    ) -> Option<Renewal> {
        if self.0.waiting_for_rate.load(Ordering::Acquire) > 0 {
            return None;
        }
        let permit = self.0.renewals.clone().try_acquire_owned().ok()?;
        let per_second = renewals_per_second(self.0.config.renewals_per_second, entries, lifetime);
        let within_rate = lock(&self.0.renewal_rate).take(per_second, now);
        (within_rate && self.rate().turn(now) == Turn::Now).then_some(Renewal { began: now, _permit: permit })
    }

    /// Halves the rate of calls, because the upstream throttled a call that began at `began`. Waits for a
    /// `Retry-After` of up to 30 s.
    ///
    /// The new rate is half of the calls that began in the last second, between 3 and 32. It grows by one each second.
    /// At 64 the limit ends. A burst of such responses counts once.
    pub(in crate::service) fn throttled(
        &self,
        began: Duration,
        retry_after: Option<Duration>,
        now: Duration,
    ) {
        self.rate().throttled(began, retry_after, now);
    }

    /// Removes peers without calls.
    pub(in crate::service) fn sweep(&self) {
        lock(&self.0.peers).retain(|_, peer_permits| Arc::strong_count(peer_permits) > 1);
    }

    /// Returns the number of calls for requests, without those that [wait](Self::waiting) for the rate limit.
    pub(in crate::service) fn in_flight(&self) -> usize {
        let calls = self.0.config.calls.saturating_sub(self.0.calls.available_permits());
        calls.saturating_sub(self.0.waiting_for_rate.load(Ordering::Acquire))
    }

    /// Returns the number of requests that wait for a credit, a permit or the rate limit.
    pub(in crate::service) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Acquire) + self.0.waiting_for_rate.load(Ordering::Acquire)
    }

    /// Returns the rest of the pause that the upstream requested with `Retry-After`.
    pub(in crate::service) fn pause(&self, now: Duration) -> Option<Duration> {
        self.rate().pause(now)
    }

    /// Returns the maximum number of calls per second, or `None` without a limit.
    pub(in crate::service) fn rate_limit(&self, now: Duration) -> Option<f64> {
        self.rate().limit(now)
    }

    #[cfg(test)]
    pub(super) fn peers(&self) -> usize {
        lock(&self.0.peers).len()
    }

    fn rate(&self) -> MutexGuard<'_, AdaptiveRate> {
        lock(&self.0.rate)
    }

    fn peer_permits(&self, peer: Peer) -> Arc<PeerPermits> {
        let (peer, limits) = match peer {
            Peer::Local => (peer, self.0.config.local),
            Peer::Remote(address) => (Peer::Remote(address.to_canonical()), self.0.config.remote),
        };
        let peer_permits = || PeerPermits {
            credits: semaphore(limits.credits),
            queue: semaphore(limits.credits.saturating_add(limits.waiting)),
            turn: Semaphore::new(1),
        };
        lock(&self.0.peers).entry(peer).or_insert_with(|| Arc::new(peer_permits())).clone()
    }
}

impl QueuedCall {
    /// Waits for a permit. The credit of the peer comes first, so that a peer without credit takes no permit. The
    /// queue is first in, first out.
    pub(in crate::service) async fn call(self) -> Call {
        let inner = &self.limits.0;
        let unaccepted = match self.unaccepted {
            None => None,
            Some((peer_permits, queue_permit)) => {
                let credit = permit(&peer_permits.credits).await;
                let unaccepted_permit = permit(&inner.unaccepted).await;
                Some(Unaccepted {
                    peer_permits,
                    credit,
                    _unaccepted_permit: unaccepted_permit,
                    _queue_permit: queue_permit,
                })
            }
        };
        let permit = permit(&inner.calls).await;
        Call { limits: self.limits.clone(), unaccepted, _permit: permit }
    }
}

impl Call {
    /// Waits for the rate limit and returns the start of the call. Without throttling it does not wait. Call it before
    /// each attempt.
    ///
    /// # Errors
    /// [`Throttled`] if the call cannot begin by `until`, as soon as that is certain.
    pub(in crate::service) async fn turn<S: Future<Output = ()>>(
        &self,
        until: Duration,
        now: impl Fn() -> Duration,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Duration, Throttled> {
        let inner = &self.limits.0;
        let _waiting = Waiting::new(&self.limits, Queue::Rate);
        let _peer_turn = match &self.unaccepted {
            None => None,
            Some(unaccepted) => acquire(&unaccepted.peer_permits.turn).await,
        };
        let _next_call = acquire(&inner.next_call).await;
        loop {
            let now = now();
            // Checked again after each pause, because the upstream may have requested a longer one meanwhile.
            let turn = if now > until { Turn::At(now) } else { self.limits.rate().turn(now) };
            match turn {
                Turn::Now => return Ok(now),
                Turn::At(at) if at > until || now > until => return Err(Throttled { until: at }),
                Turn::At(at) => sleep(at.saturating_sub(now)).await,
            }
        }
    }

    /// Ends a call with the effect of its error, or `None` for success. The credit is free at once, except that of a
    /// refused token: the caller holds it for [`UpstreamLimits::hold`].
    pub(in crate::service) fn end(self, error: Option<CacheEffect>, now: Duration) -> Option<CreditHold> {
        let Unaccepted { peer_permits, credit, .. } = self.unaccepted?;
        let until = now.saturating_add(self.limits.0.config.hold);
        let refused = error == Some(CacheEffect::RefusesToken);
        credit.filter(|_| refused).map(|credit| CreditHold { until, _peer: peer_permits, _credit: credit })
    }
}

impl CreditHold {
    /// Returns the time to drop it, by the monotonic clock.
    pub(in crate::service) fn until(&self) -> Duration {
        self.until
    }
}

impl Renewal {
    /// Returns the start of the renewal.
    pub(in crate::service) fn began(&self) -> Duration {
        self.began
    }
}

/// Counts a waiting request.
#[derive(Debug)]
struct Waiting {
    limits: Limits,
    queue: Queue,
}

#[derive(Debug, Clone, Copy)]
enum Queue {
    Permit,
    Rate,
}

impl Waiting {
    fn new(limits: &Limits, queue: Queue) -> Self {
        queue.count(limits).fetch_add(1, Ordering::AcqRel);
        Self { limits: limits.clone(), queue }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.queue.count(&self.limits).fetch_sub(1, Ordering::AcqRel);
    }
}

impl Queue {
    fn count(self, limits: &Limits) -> &AtomicUsize {
        match self {
            Self::Permit => &limits.0.waiting,
            Self::Rate => &limits.0.waiting_for_rate,
        }
    }
}

/// Limits the number of permits to tokio's maximum.
fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}

/// Waits for a permit. The semaphores are fair and never closed.
async fn permit(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.clone().acquire_owned().await.ok()
}

async fn acquire(semaphore: &Semaphore) -> Option<SemaphorePermit<'_>> {
    semaphore.acquire().await.ok()
}
