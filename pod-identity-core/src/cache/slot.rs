//! The credentials of one identity: an entry and its flight.

mod retire;
#[cfg(feature = "verify")]
mod tokens;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::flight::Landing;
use super::{Entry, Serving, Waiter};
use crate::backoff::{Backoff, random_fraction};
use crate::error::{Effect, UpstreamError};
use crate::sync::{ArcSwapOption, AtomicU64, Mutex, MutexGuard, lock};
#[cfg(feature = "verify")]
use crate::time::Expiry;
use crate::time::{Expires, Now};
#[cfg(feature = "verify")]
use crate::token::PodToken;
use crate::token::TokenDigest;

/// Pauses after refusals and failed renewals in a row.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Time for which an eventually consistent upstream must repeat that an identity has no role.
const DOUBT: Duration = Duration::from_secs(30);
/// Maximum negative-cache time after a failed call. SDKs try again after a second or two, and that attempt should reach
/// the upstream.
const NOT_ASKED_AGAIN: Duration = Duration::from_secs(1);

/// The credentials of one identity. A [`SessionCache`](super::SessionCache) has many slots, a provider has one.
#[derive(Debug)]
pub struct Slot<V, E> {
    /// Written under the lock of the state.
    entry: ArcSwapOption<Entry<V>>,
    /// Time of the last request, in milliseconds of the monotonic clock.
    asked: AtomicU64,
    /// Written under the lock of the state.
    #[cfg(feature = "verify")]
    newest: ArcSwapOption<NewestToken>,
    state: Mutex<State<V, E>>,
}

/// The token of an identity that expires last.
#[cfg(feature = "verify")]
#[derive(Debug)]
struct NewestToken {
    token: PodToken,
    expiry: Expiry,
}

#[derive(Debug)]
struct State<V, E> {
    flight: Option<watch::Receiver<Option<Landing<V, E>>>>,
    /// The last error, and the time until which it is the answer.
    refusal: Option<(Arc<E>, Duration)>,
    /// Failed fetches in a row, and the time until which none is tried while there are credentials.
    failures: u32,
    pause: Duration,
    /// Time since which the upstream has been answering that the identity has no role.
    doubted_since: Option<Duration>,
    /// Whether the slot has left its map. It keeps nothing then.
    retired: bool,
    /// The known tokens that lead here, with their expiry.
    #[cfg(feature = "verify")]
    tokens: Vec<(TokenDigest, Expiry)>,
}

/// The next step of a request.
#[derive(Debug)]
pub enum SlotBegin<V, E> {
    /// Serve these credentials.
    Hit(Arc<Entry<V>>),
    /// Serve these credentials. They are stale, but a call to the upstream failed a moment ago.
    Stale(Arc<Entry<V>>),
    /// Serve this error. The upstream gave it a moment ago.
    Refused(Arc<E>),
    /// Wait for the flight of another request.
    Wait(Waiter<V, E>),
    /// Call the upstream and complete the lead. The waiter is for this request itself.
    Lead(SlotLead<V, E>, Waiter<V, E>),
}

/// The leader of a flight. If it is dropped, its waiters begin again.
#[derive(Debug)]
pub struct SlotLead<V, E> {
    slot: Arc<Slot<V, E>>,
    /// Whether the flight has ended.
    ended: bool,
    begun: Duration,
    /// The token of the leader.
    token: Option<TokenDigest>,
    margin: Duration,
    landing: watch::Sender<Option<Landing<V, E>>>,
}

impl<V: Expires, E: UpstreamError> Default for Slot<V, E> {
    fn default() -> Self {
        let state = State {
            flight: None,
            refusal: None,
            failures: 0,
            pause: Duration::ZERO,
            doubted_since: None,
            retired: false,
            #[cfg(feature = "verify")]
            tokens: Vec::new(),
        };
        Self {
            entry: ArcSwapOption::empty(),
            asked: AtomicU64::new(0),
            #[cfg(feature = "verify")]
            newest: ArcSwapOption::empty(),
            state: Mutex::new(state),
        }
    }
}

impl<V: Expires, E: UpstreamError> Slot<V, E> {
    pub(super) fn asked_at(now: Now) -> Self {
        let slot = Self::default();
        slot.touch(now);
        slot
    }

    /// Returns the entry, unless it expires within `margin`. It is one atomic load without a lock.
    pub fn read(&self, now: Now, margin: Duration) -> Option<Arc<Entry<V>>> {
        self.entry.load_full().filter(|entry| !entry.expiry().is_over(now, margin))
    }

    /// Calls `look` with the entry, unless it expires within `margin`. It takes no lock and counts no reference, so
    /// concurrent threads do not write to the same cache line.
    pub fn peek<R>(&self, now: Now, margin: Duration, look: impl FnOnce(&Entry<V>) -> R) -> Option<R> {
        let entry = self.entry.load();
        entry.as_ref().filter(|entry| !entry.expiry().is_over(now, margin)).map(|entry| look(entry))
    }

    fn fresh(&self, now: Now, serving: Serving) -> Option<Arc<Entry<V>>> {
        self.entry.load_full().filter(|entry| entry.is_fresh(now, serving))
    }

    /// Returns fresh credentials without a lock, and records the request.
    pub(super) fn hit(&self, now: Now, serving: Serving) -> Option<Arc<Entry<V>>> {
        self.touch(now);
        self.fresh(now, serving)
    }

    /// Begins a request. `token` is the token of the request, for an upstream that verifies tokens.
    pub fn begin(
        self: &Arc<Self>,
        token: Option<TokenDigest>,
        now: Now,
        serving: Serving,
    ) -> SlotBegin<V, E> {
        if let Some(entry) = self.hit(now, serving) {
            return SlotBegin::Hit(entry);
        }
        self.begin_under(&mut self.lock(), token, now, serving)
    }

    /// Begins a request for a slot of a map. Returns `None` if the slot has left the map.
    pub(super) fn begin_in_map(
        self: &Arc<Self>,
        token: Option<TokenDigest>,
        now: Now,
        serving: Serving,
    ) -> Option<SlotBegin<V, E>> {
        if let Some(entry) = self.hit(now, serving) {
            return Some(SlotBegin::Hit(entry));
        }
        let mut state = self.lock();
        if state.retired {
            return None;
        }
        Some(self.begin_under(&mut state, token, now, serving))
    }

    /// Begins a fetch ahead of need, for a caller that knows when it is time. Returns `None` during a flight and for a
    /// while after a failed one.
    pub fn begin_ahead(self: &Arc<Self>, now: Now, margin: Duration) -> Option<SlotLead<V, E>> {
        self.begin_ahead_with(None, now, margin)
    }

    fn begin_ahead_with(
        self: &Arc<Self>,
        token: Option<TokenDigest>,
        now: Now,
        margin: Duration,
    ) -> Option<SlotLead<V, E>> {
        let mut state = self.lock();
        let pauses = now.monotonic < state.pause;
        (!state.retired && !pauses && state.flight.is_none())
            .then(|| self.lead(&mut state, token, now, margin))
    }

    fn begin_under(
        self: &Arc<Self>,
        state: &mut State<V, E>,
        token: Option<TokenDigest>,
        now: Now,
        serving: Serving,
    ) -> SlotBegin<V, E> {
        // Once more under the lock: a flight publishes its entry before it ends.
        if let Some(entry) = self.fresh(now, serving) {
            return SlotBegin::Hit(entry);
        }
        if let Some(landing) = &state.flight {
            return SlotBegin::Wait(Waiter { landing: landing.clone(), token });
        }
        if let Some((error, until)) = &state.refusal
            && now.monotonic < *until
        {
            return SlotBegin::Refused(error.clone());
        }
        if now.monotonic < state.pause
            && let Some(entry) = self.read(now, serving.margin)
        {
            return SlotBegin::Stale(entry);
        }
        let lead = self.lead(state, token, now, serving.margin);
        let landing = lead.landing.subscribe();
        SlotBegin::Lead(lead, Waiter { landing, token })
    }

    fn lead(
        self: &Arc<Self>,
        state: &mut State<V, E>,
        token: Option<TokenDigest>,
        now: Now,
        margin: Duration,
    ) -> SlotLead<V, E> {
        let (landing, receiver) = watch::channel(None);
        state.flight = Some(receiver);
        SlotLead { slot: self.clone(), ended: false, begun: now.monotonic, token, margin, landing }
    }

    /// Stores an entry, unless the stored one is of a flight that began later, and returns the stored one. An entry
    /// that expires earlier replaces too, because the duration of a session may have become shorter. A slot that has
    /// left its map stores nothing, so that no token that knew it is served from it.
    pub(super) fn publish(&self, entry: Arc<Entry<V>>) -> Arc<Entry<V>> {
        let mut state = self.lock();
        (state.failures, state.pause, state.refusal, state.doubted_since) = (0, Duration::ZERO, None, None);
        let kept = self.entry.load_full().filter(|kept| kept.begun() > entry.begun());
        if let Some(kept) = kept {
            return kept;
        }
        if !state.retired {
            self.entry.store(Some(entry.clone()));
        }
        entry
    }

    /// Records the failure of a fetch that began at `begun`, ends its flight, and returns the result
    /// for the waiters.
    ///
    /// One lock holds both, so a waiter that begins again cannot join a flight that has failed. A
    /// failure does not touch an entry whose fetch began later.
    fn fail(
        &self,
        error: &Arc<E>,
        token: Option<TokenDigest>,
        begun: Duration,
        now: Now,
        margin: Duration,
    ) -> Landing<V, E> {
        let mut state = self.lock();
        state.flight = None;
        let of_token = token.filter(|_| error.effect() == Effect::RefusesToken);
        #[cfg(feature = "verify")]
        if of_token.is_some() && self.newest.load().as_ref().map(|kept| kept.token.digest()) == of_token {
            // No renewal uses it again, unless the pod sends no other token.
            self.newest.store(None);
        }
        if let Some(newer) = self.read(now, margin).filter(|entry| entry.begun() > begun) {
            return match of_token {
                None => Landing::Value(newer),
                of_token => Landing::Failure { error: error.clone(), of_token },
            };
        }
        let effect = match error.effect() {
            Effect::DoubtsIdentity => {
                let since = *state.doubted_since.get_or_insert(now.monotonic);
                let confirmed = now.monotonic.saturating_sub(since) >= DOUBT;
                if confirmed { Effect::RefusesIdentity } else { Effect::CannotAsk }
            }
            effect => effect,
        };
        state.failures += 1;
        state.pause = now.monotonic + PAUSES.around(state.failures, random_fraction());
        if effect == Effect::RefusesIdentity {
            self.entry.store(None);
        }
        // Without credentials, each request would be a call.
        if effect != Effect::RefusesToken && self.read(now, margin).is_none() {
            let until = match error.effect() {
                Effect::CannotAsk => state.pause.min(now.monotonic + NOT_ASKED_AGAIN),
                _ => state.pause,
            };
            state.refusal = Some((error.clone(), until));
        }
        match self.read(now, margin).filter(|_| effect.keeps_credentials()) {
            Some(entry) => Landing::Stale(entry),
            None => Landing::Failure { error: error.clone(), of_token },
        }
    }

    fn touch(&self, now: Now) {
        let asked = u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX);
        // Most requests of a busy identity find the time already stored, so they write to no shared cache line.
        if self.asked.load(Ordering::Relaxed) != asked {
            self.asked.store(asked, Ordering::Relaxed);
        }
    }

    pub(super) fn last_asked(&self) -> Duration {
        Duration::from_millis(self.asked.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, State<V, E>> {
        lock(&self.state)
    }
}

impl<V: Expires, E: UpstreamError> SlotLead<V, E> {
    /// Ends the flight of a slot without a map. It publishes the entry, then ends the flight, then
    /// tells the waiters. So no request begins a second fetch in between, and none joins a flight that
    /// has ended.
    pub fn complete(self, now: Now, answer: Result<V, E>) {
        match answer {
            Ok(value) => {
                let entry = self.slot.publish(Arc::new(Entry::new(value, self.begun, now)));
                self.land(entry);
            }
            Err(error) => self.fail(&Arc::new(error), now),
        }
    }

    /// Returns the time when the fetch began, by the monotonic clock.
    #[cfg(feature = "verify")]
    pub(super) fn begun(&self) -> Duration {
        self.begun
    }

    /// Returns the slot of the flight.
    #[cfg(feature = "verify")]
    pub(super) fn slot(&self) -> &Arc<Slot<V, E>> {
        &self.slot
    }

    /// Gives the waiters an entry that has been published.
    pub(super) fn land(mut self, entry: Arc<Entry<V>>) {
        self.end();
        self.landing.send_replace(Some(Landing::Value(entry)));
    }

    /// Gives the waiters an error. An error about the token goes only to waiters with that token. If
    /// the error leaves credentials in use, the waiters get them.
    pub(super) fn fail(mut self, error: &Arc<E>, now: Now) {
        let landing = self.slot.fail(error, self.token, self.begun, now, self.margin);
        self.ended = true;
        self.landing.send_replace(Some(landing));
    }
}

impl<V, E> SlotLead<V, E> {
    /// Ends the flight once: the next flight of the slot has another leader.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            lock(&self.slot.state).flight = None;
        }
    }
}

impl<V, E> Drop for SlotLead<V, E> {
    fn drop(&mut self) {
        // The leader was dropped, panicked or was cancelled. The sender is dropped after this, which tells the waiters
        // to begin again.
        self.end();
    }
}
