//! Permits of calls, and their queues.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::UpstreamLimits;
use super::pace::{Pace, renewals_per_second};
use super::rate::{AdaptiveRate, Turn};
use crate::error::Effect;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, lock};

/// The limits of one upstream. Clones are the same limits.
#[derive(Debug, Clone)]
pub(in crate::service) struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budgets: UpstreamLimits,
    calls: Arc<Semaphore>,
    unaccepted: Arc<Semaphore>,
    renewals: Arc<Semaphore>,
    /// Its one permit is for the next call.
    turnstile: Semaphore,
    rate: Mutex<AdaptiveRate>,
    pace: Mutex<Pace>,
    peers: Mutex<HashMap<Peer, Arc<Account>>>,
    waiting: AtomicUsize,
    at_turnstile: AtomicUsize,
}

/// The network address that a token came from.
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
    /// This machine. A pod in the host's network may use any of its addresses, so they are one peer.
    Local,
    /// A pod with an address of its own.
    Remote(IpAddr),
}

/// A loopback address is [`Peer::Local`]. Where pods of the host's network reach the server by other addresses of
/// the machine, map those to [`Peer::Local`], too.
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
struct Account {
    credits: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// One call of each peer waits for its turn at a time, so that peers alternate.
    door: Semaphore,
}

/// Too many requests of the peer wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many unverified tokens of this peer wait")]
pub(in crate::service) struct Crowded;

/// No turn comes before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upstream asks for fewer calls")]
pub(in crate::service) struct Throttled {
    /// Earliest time of a turn, by the monotonic clock.
    pub(in crate::service) until: Duration,
}

/// A place in the queue, free again on drop.
#[derive(Debug)]
#[must_use]
pub(in crate::service) struct Place {
    limits: Limits,
    unaccepted: Option<(Arc<Account>, OwnedSemaphorePermit)>,
    _waiting: Waiting,
}

/// Permit for one upstream call, released on drop.
#[derive(Debug)]
#[must_use]
pub(in crate::service) struct Call {
    limits: Limits,
    /// For an unverified token.
    unaccepted: Option<Unaccepted>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Permits of an unverified token beside that of its call.
#[derive(Debug)]
struct Unaccepted {
    account: Arc<Account>,
    credit: Option<OwnedSemaphorePermit>,
    _share: Option<OwnedSemaphorePermit>,
    _place: OwnedSemaphorePermit,
}

/// The credit of a refused token. Keep it until its time, then drop it.
#[derive(Debug)]
#[must_use = "a credit that is dropped at once lets junk through as fast as it is refused"]
pub(in crate::service) struct Held {
    until: Duration,
    _account: Arc<Account>,
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
    pub(in crate::service) fn new(budgets: UpstreamLimits) -> Self {
        Self(Arc::new(Inner {
            budgets,
            calls: semaphore(budgets.calls),
            unaccepted: semaphore(budgets.unaccepted_calls),
            renewals: semaphore(budgets.renewals),
            turnstile: Semaphore::new(1),
            rate: Mutex::default(),
            pace: Mutex::default(),
            peers: Mutex::default(),
            waiting: AtomicUsize::new(0),
            at_turnstile: AtomicUsize::new(0),
        }))
    }

    /// Takes a place for a verified token. There always is one, because the cache makes one call for each identity at a
    /// time.
    pub(in crate::service) fn accepted(&self) -> Place {
        Place { limits: self.clone(), unaccepted: None, _waiting: Waiting::new(self, Queue::Places) }
    }

    /// Takes a place for an unverified token.
    ///
    /// # Errors
    /// [`Crowded`] if too many requests of the peer wait.
    pub(in crate::service) fn unaccepted(&self, peer: Peer) -> Result<Place, Crowded> {
        let account = self.account(peer);
        let place = account.places.clone().try_acquire_owned().map_err(|_| Crowded)?;
        let waiting = Waiting::new(self, Queue::Places);
        Ok(Place { limits: self.clone(), unaccepted: Some((account, place)), _waiting: waiting })
    }

    /// Returns a permit for one renewal if there is one now. It never waits. Waiting requests go first: there is no
    /// permit while the upstream asks for fewer calls and requests wait for their turn.
    ///
    /// Renewals begin at [`UpstreamLimits::renewals_per_second`], or faster if many `entries` or their short `life` need
    /// it: at twice the rate that renews each entry once in half of its life.
    pub(in crate::service) fn renewal(
        &self,
        entries: usize,
        life: Duration,
        now: Duration,
    ) -> Option<Renewal> {
        if self.0.at_turnstile.load(Ordering::Acquire) > 0 {
            return None;
        }
        let permit = self.0.renewals.clone().try_acquire_owned().ok()?;
        let per_second = renewals_per_second(self.0.budgets.renewals_per_second, entries, life);
        let paced = lock(&self.0.pace).take(per_second, now);
        (paced && self.rate().turn(now) == Turn::Now).then_some(Renewal { began: now, _permit: permit })
    }

    /// Halves the rate of calls, because the upstream throttled a call that had its turn at `began`. A `Retry-After` is
    /// waited for up to 30 s.
    ///
    /// The new rate is half of the calls that began in the last second, between 3 and 32. It grows by one each second up
    /// to 64, which is no limit any more. A burst of such answers counts once.
    pub(in crate::service) fn throttled(
        &self,
        began: Duration,
        retry_after: Option<Duration>,
        now: Duration,
    ) {
        self.rate().throttled(began, retry_after, now);
    }

    /// Forgets peers without calls.
    pub(in crate::service) fn sweep(&self) {
        lock(&self.0.peers).retain(|_, account| Arc::strong_count(account) > 1);
    }

    /// Returns the number of calls for requests, without those that [wait](Self::waiting) for their turn.
    pub(in crate::service) fn in_flight(&self) -> usize {
        let calls = self.0.budgets.calls.saturating_sub(self.0.calls.available_permits());
        calls.saturating_sub(self.0.at_turnstile.load(Ordering::Acquire))
    }

    /// Returns the number of requests that wait for a credit, a permit or a turn.
    pub(in crate::service) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Acquire) + self.0.at_turnstile.load(Ordering::Acquire)
    }

    /// Returns the rest of the pause that the upstream asked for by `Retry-After`.
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

    fn account(&self, peer: Peer) -> Arc<Account> {
        let (peer, share) = match peer {
            Peer::Local => (peer, self.0.budgets.local),
            Peer::Remote(address) => (Peer::Remote(address.to_canonical()), self.0.budgets.remote),
        };
        let account = || Account {
            credits: semaphore(share.credits),
            places: semaphore(share.credits.saturating_add(share.waiting)),
            door: Semaphore::new(1),
        };
        lock(&self.0.peers).entry(peer).or_insert_with(|| Arc::new(account())).clone()
    }
}

impl Place {
    /// Waits for a permit. The credit of the peer comes first, so that a peer without credit takes no permit. The queue
    /// is first in, first out.
    pub(in crate::service) async fn call(self) -> Call {
        let inner = &self.limits.0;
        let unaccepted = match self.unaccepted {
            None => None,
            Some((account, place)) => {
                let credit = permit(&account.credits).await;
                let share = permit(&inner.unaccepted).await;
                Some(Unaccepted { account, credit, _share: share, _place: place })
            }
        };
        let permit = permit(&inner.calls).await;
        Call { limits: self.limits.clone(), unaccepted, _permit: permit }
    }
}

impl Call {
    /// Waits for the turn of the call and returns its time. There is nothing to wait for unless the upstream asks for
    /// fewer calls. Each attempt takes a turn of its own.
    ///
    /// # Errors
    /// [`Throttled`] if the turn would come after `until`, as soon as that is certain.
    pub(in crate::service) async fn turn<S: Future<Output = ()>>(
        &self,
        until: Duration,
        now: impl Fn() -> Duration,
        sleep: impl Fn(Duration) -> S,
    ) -> Result<Duration, Throttled> {
        let inner = &self.limits.0;
        let _waiting = Waiting::new(&self.limits, Queue::Turnstile);
        let _door = match &self.unaccepted {
            None => None,
            Some(unaccepted) => pass(&unaccepted.account.door).await,
        };
        let _turnstile = pass(&inner.turnstile).await;
        loop {
            let now = now();
            // Again after each pause: the upstream may have asked for a longer one meanwhile.
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
    pub(in crate::service) fn end(self, error: Option<Effect>, now: Duration) -> Option<Held> {
        let Unaccepted { account, credit, .. } = self.unaccepted?;
        let until = now.saturating_add(self.limits.0.budgets.hold);
        let refused = error == Some(Effect::RefusesToken);
        credit.filter(|_| refused).map(|credit| Held { until, _account: account, _credit: credit })
    }
}

impl Held {
    /// Returns the time to drop it, by the monotonic clock.
    pub(in crate::service) fn until(&self) -> Duration {
        self.until
    }
}

impl Renewal {
    /// Returns the time when it began.
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
    Places,
    Turnstile,
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
            Self::Places => &limits.0.waiting,
            Self::Turnstile => &limits.0.at_turnstile,
        }
    }
}

/// tokio refuses more permits than these.
fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}

/// Waits for a permit. The semaphores are fair and never closed.
async fn permit(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.clone().acquire_owned().await.ok()
}

async fn pass(semaphore: &Semaphore) -> Option<SemaphorePermit<'_>> {
    semaphore.acquire().await.ok()
}
