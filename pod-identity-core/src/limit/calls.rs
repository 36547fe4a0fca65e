//! Who may call, and who waits for whom.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::Budgets;
use super::pace::{Pace, renewals_per_second};
use super::rate::{AdaptiveRate, Turn};
use crate::cache::Effect;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, lock};

/// All budgets of one upstream.
///
/// A clone is the same budgets.
#[derive(Debug, Clone)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budgets: Budgets,
    calls: Arc<Semaphore>,
    unaccepted: Arc<Semaphore>,
    renewals: Arc<Semaphore>,
    /// Whoever holds its one permit is the next to have a turn.
    turnstile: Semaphore,
    rate: Mutex<AdaptiveRate>,
    pace: Mutex<Pace>,
    peers: Mutex<HashMap<Peer, Arc<Account>>>,
    waiting: AtomicUsize,
    at_turnstile: AtomicUsize,
}

/// Who sends a token, as far as its network address says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// This machine: a pod in the host's network may use any of its addresses, so they are one peer.
    Local,
    /// A pod of its own address.
    Remote(IpAddr),
}

/// What a peer has.
#[derive(Debug)]
struct Account {
    credits: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// Each peer sends one of its calls to the turnstile at a time: peers take turns there.
    door: Semaphore,
}

/// Too many of that peer wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many tokens of this peer wait to be judged")]
pub struct Crowded;

/// No turn comes in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upstream asks for fewer calls")]
pub struct Throttled {
    /// When a turn might come, by the monotonic clock.
    pub until: Duration,
}

/// A place among those who wait; dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub struct Place {
    limits: Limits,
    unaccepted: Option<(Arc<Account>, OwnedSemaphorePermit)>,
    _waiting: Waiting,
}

/// The right to a call; dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub struct Call {
    limits: Limits,
    /// Of a token that nobody has accepted.
    unaccepted: Option<Unaccepted>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// What a token that nobody has accepted takes beside a call.
#[derive(Debug)]
struct Unaccepted {
    account: Arc<Account>,
    credit: Option<OwnedSemaphorePermit>,
    _share: Option<OwnedSemaphorePermit>,
    _place: OwnedSemaphorePermit,
}

/// The credit of a token that was refused. Keep it until its time, then drop it.
#[derive(Debug)]
#[must_use = "a credit that is dropped at once lets junk through as fast as it is refused"]
pub struct Held {
    until: Duration,
    _account: Arc<Account>,
    _credit: OwnedSemaphorePermit,
}

/// The right to renew one entry; dropped, it is free again.
#[derive(Debug)]
#[must_use]
pub struct Renewal {
    began: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Limits {
    /// Budgets that nobody has used yet.
    pub fn new(budgets: Budgets) -> Self {
        Self(Arc::new(Inner {
            budgets,
            calls: Arc::new(Semaphore::new(budgets.calls)),
            unaccepted: Arc::new(Semaphore::new(budgets.unaccepted_calls)),
            renewals: Arc::new(Semaphore::new(budgets.renewals)),
            turnstile: Semaphore::new(1),
            rate: Mutex::default(),
            pace: Mutex::default(),
            peers: Mutex::default(),
            waiting: AtomicUsize::new(0),
            at_turnstile: AtomicUsize::new(0),
        }))
    }

    /// A place for a token that is known to be good: verified by keys, or accepted before. There is
    /// always one: the cache makes one call for each identity at a time.
    pub fn accepted(&self) -> Place {
        Place { limits: self.clone(), unaccepted: None, _waiting: Waiting::new(self, Queue::Places) }
    }

    /// A place for a token that nobody has accepted.
    ///
    /// # Errors
    /// [`Crowded`] where too many of that peer wait already.
    pub fn unaccepted(&self, peer: Peer) -> Result<Place, Crowded> {
        let account = self.account(peer);
        let place = account.places.clone().try_acquire_owned().map_err(|_| Crowded)?;
        let waiting = Waiting::new(self, Queue::Places);
        Ok(Place { limits: self.clone(), unaccepted: Some((account, place)), _waiting: waiting })
    }

    /// The right to begin one renewal now, or `None`: ask again in a second. It never waits, and demand
    /// goes first: there is none where the upstream has asked for fewer calls and demand waits for its
    /// turn.
    ///
    /// `entries` are renewed at [`Budgets::renewals_per_second`], or faster where they are so many or
    /// have so short a `life` that it would not do: at twice what renews each of them once in half of
    /// that life.
    pub fn renewal(&self, entries: usize, life: Duration, now: Duration) -> Option<Renewal> {
        if self.0.at_turnstile.load(Ordering::Acquire) > 0 {
            return None;
        }
        let permit = self.0.renewals.clone().try_acquire_owned().ok()?;
        let per_second = renewals_per_second(self.0.budgets.renewals_per_second, entries, life);
        let paced = lock(&self.0.pace).take(per_second, now);
        (paced && self.rate().turn(now) == Turn::Now).then_some(Renewal { began: now, _permit: permit })
    }

    /// Takes in that the upstream answered a call with a demand for fewer, and perhaps with a
    /// `Retry-After`, which is waited for up to 30 s. `began` is when that call had its turn.
    ///
    /// Then half as many calls may begin in a second as began in one before, but not less than three nor
    /// more than 32. From there it is one a second more each second, up to 64, which limit nothing any
    /// more. One burst of such answers counts once.
    pub fn throttled(&self, began: Duration, retry_after: Option<Duration>, now: Duration) {
        self.rate().throttled(began, retry_after, now);
    }

    /// Forgets the peers that have nothing under way.
    pub fn sweep(&self) {
        lock(&self.0.peers).retain(|_, account| Arc::strong_count(account) > 1);
    }

    /// Fetches of demand that have all they need: those that [wait](Self::waiting) for a turn have a call
    /// too, and are not counted here.
    pub fn in_flight(&self) -> usize {
        let calls = self.0.budgets.calls.saturating_sub(self.0.calls.available_permits());
        calls.saturating_sub(self.0.at_turnstile.load(Ordering::Acquire))
    }

    /// Fetches of demand that wait: for a credit, for a call or for a turn.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Acquire) + self.0.at_turnstile.load(Ordering::Acquire)
    }

    /// How long it is until calls may begin again, where the upstream has asked for a pause by
    /// `Retry-After`.
    pub fn pause(&self, now: Duration) -> Option<Duration> {
        self.rate().pause(now)
    }

    /// Calls a second; `None` where nothing limits them.
    pub fn rate_limit(&self, now: Duration) -> Option<f64> {
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
            credits: Arc::new(Semaphore::new(share.credits)),
            places: Arc::new(Semaphore::new(share.credits + share.waiting)),
            door: Semaphore::new(1),
        };
        lock(&self.0.peers).entry(peer).or_insert_with(|| Arc::new(account())).clone()
    }
}

impl Place {
    /// Waits for a call: for the peer's credit first, so that a peer without one takes nobody's call.
    /// Whoever came first goes first.
    pub async fn call(self) -> Call {
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
    /// Waits for the turn to ask the upstream, and gives the time at which it came. There is nothing to
    /// wait for unless the upstream has asked for fewer calls. Each attempt takes a turn of its own.
    ///
    /// # Errors
    /// [`Throttled`] where the turn would come after `until`: at once, if that is certain.
    pub async fn turn<S: Future<Output = ()>>(
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
            // Asked anew after each pause: the upstream may have asked for a longer one meanwhile.
            let turn = if now > until { Turn::At(now) } else { self.limits.rate().turn(now) };
            match turn {
                Turn::Now => return Ok(now),
                Turn::At(at) if at > until || now > until => return Err(Throttled { until: at }),
                Turn::At(at) => sleep(at.saturating_sub(now)).await,
            }
        }
    }

    /// Ends a call with what the upstream's error meant, or `None` for success. Acceptance, or that the
    /// upstream could not be asked, gives the credit back at once; a refusal of the token only after
    /// [`Budgets::hold`], which is for the caller to wait for.
    pub fn end(self, error: Option<Effect>, now: Duration) -> Option<Held> {
        let Unaccepted { account, credit, .. } = self.unaccepted?;
        let until = now + self.limits.0.budgets.hold;
        let refused = error == Some(Effect::RefusesToken);
        credit.filter(|_| refused).map(|credit| Held { until, _account: account, _credit: credit })
    }
}

impl Held {
    /// When to drop it, by the monotonic clock.
    pub fn until(&self) -> Duration {
        self.until
    }
}

impl Renewal {
    /// When it began.
    pub fn began(&self) -> Duration {
        self.began
    }
}

/// One more of those who wait.
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

/// Waits for a permit. The semaphores are fair, and never closed: there always is one in the end.
async fn permit(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    semaphore.clone().acquire_owned().await.ok()
}

async fn pass(semaphore: &Semaphore) -> Option<SemaphorePermit<'_>> {
    semaphore.acquire().await.ok()
}
