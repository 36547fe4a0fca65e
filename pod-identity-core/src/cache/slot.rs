//! The credentials of one identity: an entry and its flight.

mod retire;
#[cfg(feature = "verify")]
mod tokens;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::flight::FlightResult;
use super::{Entry, Serving, Waiter};
use crate::backoff::{Backoff, random_fraction};
use crate::error::{CacheEffect, UpstreamError};
use crate::sync::{ArcSwapOption, AtomicU64, Mutex, MutexGuard, lock};
#[cfg(feature = "verify")]
use crate::time::Expiry;
use crate::time::{Expires, Now};
#[cfg(feature = "verify")]
use crate::token::PodToken;
use crate::token::TokenDigest;

/// Pauses after failed renewals in a row.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// Pauses after refusals in a row of an identity without credentials. A new association takes effect within 5 s.
const REFUSALS: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
/// Time for which an eventually consistent upstream must repeat that an identity has no role.
const CONFIRMATION: Duration = Duration::from_secs(30);
/// Maximum negative-cache time after a failed call. SDKs try again after one or two seconds, and that attempt should
/// reach the upstream.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// The credentials of one identity. A [`SessionCache`](super::SessionCache) has many slots, a provider has one.
#[derive(Debug)]
pub struct Slot<V, E> {
    /// Written under the lock of the state.
    entry: ArcSwapOption<Entry<V>>,
    /// Time of the last request, in milliseconds of the monotonic clock.
    requested: AtomicU64,
    /// Written under the lock of the state.
    #[cfg(feature = "verify")]
    newest: ArcSwapOption<NewestToken>,
    state: Mutex<State<V, E>>,
}

/// The token of an identity with the latest expiry.
#[cfg(feature = "verify")]
#[derive(Debug)]
struct NewestToken {
    token: PodToken,
    expiry: Expiry,
}

#[derive(Debug)]
struct State<V, E> {
    flight: Option<watch::Receiver<Option<FlightResult<V, E>>>>,
    /// The last error, and the time until which it is served.
    refusal: Option<(Arc<E>, Duration)>,
    /// Number of failed fetches in a row, and the time of the next fetch while there are credentials.
    failures: u32,
    pause: Duration,
    /// Start of the time in which the upstream has refused the identity, if the refusal is not confirmed yet.
    unconfirmed_since: Option<Duration>,
    /// Whether the slot has left its map. A retired slot stores nothing.
    retired: bool,
    /// The known tokens of this slot, with their expiry.
    #[cfg(feature = "verify")]
    tokens: Vec<(TokenDigest, Expiry)>,
}

/// The next step of a request.
#[derive(Debug)]
pub enum SlotBegin<V, E> {
    /// Serve these credentials.
    Hit(Arc<Entry<V>>),
    /// Serve these credentials. They are stale, because a recent call to the upstream failed.
    Stale(Arc<Entry<V>>),
    /// Serve this recent error of the upstream.
    Refused(Arc<E>),
    /// Wait for the flight of another request.
    Wait(Waiter<V, E>),
    /// Call the upstream and complete the flight. The waiter is for this request itself.
    Lead(SlotLeader<V, E>, Waiter<V, E>),
}

/// The leader of a flight. If it is dropped, its waiters begin again.
#[derive(Debug)]
pub struct SlotLeader<V, E> {
    slot: Arc<Slot<V, E>>,
    /// Whether the flight has ended.
    ended: bool,
    begun: Duration,
    /// The token of the leader.
    token: Option<TokenDigest>,
    margin: Duration,
    result: watch::Sender<Option<FlightResult<V, E>>>,
}

impl<V: Expires, E: UpstreamError> Default for Slot<V, E> {
    fn default() -> Self {
        let state = State {
            flight: None,
            refusal: None,
            failures: 0,
            pause: Duration::ZERO,
            unconfirmed_since: None,
            retired: false,
            #[cfg(feature = "verify")]
            tokens: Vec::new(),
        };
        Self {
            entry: ArcSwapOption::empty(),
            requested: AtomicU64::new(0),
            #[cfg(feature = "verify")]
            newest: ArcSwapOption::empty(),
            state: Mutex::new(state),
        }
    }
}

impl<V: Expires, E: UpstreamError> Slot<V, E> {
    pub(super) fn requested_at(now: Now) -> Self {
        let slot = Self::default();
        slot.touch(now);
        slot
    }

    /// Returns the entry, unless it expires within `margin`. It takes one atomic load and no lock.
    pub fn read(&self, now: Now, margin: Duration) -> Option<Arc<Entry<V>>> {
        self.entry.load_full().filter(|entry| !entry.expiry().is_over(now, margin))
    }

    /// Calls `look` with the entry, unless it expires within `margin`. It takes no lock and increments no reference
    /// count, so threads do not write to a shared cache line.
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

    /// Begins a fetch before a request needs it. Returns `None` during a flight and for a while after a failed one.
    pub fn begin_ahead(self: &Arc<Self>, now: Now, margin: Duration) -> Option<SlotLeader<V, E>> {
        self.begin_ahead_with(None, now, margin)
    }

    fn begin_ahead_with(
        self: &Arc<Self>,
        token: Option<TokenDigest>,
        now: Now,
        margin: Duration,
    ) -> Option<SlotLeader<V, E>> {
        let mut state = self.lock();
        let pauses = now.monotonic < state.pause;
        (!state.retired && !pauses && state.flight.is_none())
            .then(|| self.start_flight(&mut state, token, now, margin))
    }

    fn begin_under(
        self: &Arc<Self>,
        state: &mut State<V, E>,
        token: Option<TokenDigest>,
        now: Now,
        serving: Serving,
    ) -> SlotBegin<V, E> {
        // Again under the lock, because a flight publishes its entry before it ends.
        if let Some(entry) = self.fresh(now, serving) {
            return SlotBegin::Hit(entry);
        }
        if let Some(result) = &state.flight {
            return SlotBegin::Wait(Waiter { result: result.clone(), token });
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
        let leader = self.start_flight(state, token, now, serving.margin);
        let result = leader.result.subscribe();
        SlotBegin::Lead(leader, Waiter { result, token })
    }

    fn start_flight(
        self: &Arc<Self>,
        state: &mut State<V, E>,
        token: Option<TokenDigest>,
        now: Now,
        margin: Duration,
    ) -> SlotLeader<V, E> {
        let (result, receiver) = watch::channel(None);
        state.flight = Some(receiver);
        SlotLeader { slot: self.clone(), ended: false, begun: now.monotonic, token, margin, result }
    }

    /// Stores an entry and returns the stored entry. An entry of a flight that started later stays. An entry with an
    /// earlier expiry replaces the stored one, because session durations may become shorter. A retired slot stores
    /// nothing, so that no token that still refers to it is served.
    pub(super) fn publish(&self, entry: Arc<Entry<V>>) -> Arc<Entry<V>> {
        let mut state = self.lock();
        (state.failures, state.pause, state.refusal, state.unconfirmed_since) =
            (0, Duration::ZERO, None, None);
        let kept = self.entry.load_full().filter(|kept| kept.begun() > entry.begun());
        if let Some(kept) = kept {
            return kept;
        }
        if !state.retired {
            self.entry.store(Some(entry.clone()));
        }
        entry
    }

    /// Records the failure of a fetch that started at `begun`, ends its flight, and returns the result for the
    /// waiters.
    ///
    /// One lock covers all of it, so a waiter that begins again cannot join the failed flight. A failure does not
    /// change an entry whose fetch started later.
    fn fail(
        &self,
        error: &Arc<E>,
        token: Option<TokenDigest>,
        begun: Duration,
        now: Now,
        margin: Duration,
    ) -> FlightResult<V, E> {
        let mut state = self.lock();
        state.flight = None;
        let of_token = token.filter(|_| error.effect() == CacheEffect::RefusesToken);
        #[cfg(feature = "verify")]
        if of_token.is_some() && self.newest.load().as_ref().map(|kept| kept.token.digest()) == of_token {
            // Renewals do not use it again, unless the pod sends no other token.
            self.newest.store(None);
        }
        if let Some(newer) = self.read(now, margin).filter(|entry| entry.begun() > begun) {
            return match of_token {
                None => FlightResult::Value(newer),
                of_token => FlightResult::Failure { error: error.clone(), of_token },
            };
        }
        let effect = match error.effect() {
            CacheEffect::UnconfirmedRefusal => {
                let since = *state.unconfirmed_since.get_or_insert(now.monotonic);
                let confirmed = now.monotonic.saturating_sub(since) >= CONFIRMATION;
                if confirmed { CacheEffect::RefusesIdentity } else { CacheEffect::CallFailed }
            }
            effect => effect,
        };
        state.failures += 1;
        state.pause = now.monotonic + PAUSES.around(state.failures, random_fraction());
        if effect == CacheEffect::RefusesIdentity {
            self.entry.store(None);
        }
        // Without this, each request would be a call while there are no credentials.
        if effect != CacheEffect::RefusesToken && self.read(now, margin).is_none() {
            let until = match error.effect() {
                CacheEffect::CallFailed => state.pause.min(now.monotonic + FAILURE_PAUSE),
                CacheEffect::RefusesIdentity | CacheEffect::UnconfirmedRefusal => {
                    now.monotonic + REFUSALS.around(state.failures, random_fraction())
                }
                _ => state.pause,
            };
            state.refusal = Some((error.clone(), until));
        }
        match self.read(now, margin).filter(|_| effect.keeps_credentials()) {
            Some(entry) => FlightResult::Stale(entry),
            None => FlightResult::Failure { error: error.clone(), of_token },
        }
    }

    fn touch(&self, now: Now) {
        let requested = u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX);
        // Most requests of a busy identity find the same time already stored, so they do not write to a shared cache
        // line.
        if self.requested.load(Ordering::Relaxed) != requested {
            self.requested.store(requested, Ordering::Relaxed);
        }
    }

    pub(super) fn last_requested(&self) -> Duration {
        Duration::from_millis(self.requested.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, State<V, E>> {
        lock(&self.state)
    }
}

impl<V: Expires, E: UpstreamError> SlotLeader<V, E> {
    /// Ends the flight of a slot without a map. It publishes the entry, ends the flight, and then wakes the waiters.
    /// In this order no request begins a second fetch, and no request joins a flight that has ended.
    pub fn complete(self, now: Now, response: Result<V, E>) {
        match response {
            Ok(value) => {
                let entry = self.slot.publish(Arc::new(Entry::new(value, self.begun, now)));
                self.finish(entry);
            }
            Err(error) => self.fail(&Arc::new(error), now),
        }
    }

    /// Returns the start of the fetch, by the monotonic clock.
    #[cfg(feature = "verify")]
    pub(super) fn begun(&self) -> Duration {
        self.begun
    }

    /// Returns the slot of the flight.
    #[cfg(feature = "verify")]
    pub(super) fn slot(&self) -> &Arc<Slot<V, E>> {
        &self.slot
    }

    /// Ends the flight with an entry that has been published.
    pub(super) fn finish(mut self, entry: Arc<Entry<V>>) {
        self.end();
        self.result.send_replace(Some(FlightResult::Value(entry)));
    }

    /// Ends the flight with an error. An error about the token goes only to waiters with that token. If the error
    /// leaves credentials in use, the waiters get those.
    pub(super) fn fail(mut self, error: &Arc<E>, now: Now) {
        let result = self.slot.fail(error, self.token, self.begun, now, self.margin);
        self.ended = true;
        self.result.send_replace(Some(result));
    }
}

impl<V, E> SlotLeader<V, E> {
    /// Ends the flight once, because the next flight of the slot has another leader.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            lock(&self.slot.state).flight = None;
        }
    }
}

impl<V, E> Drop for SlotLeader<V, E> {
    fn drop(&mut self) {
        // The leader was dropped without a result, panicked or was cancelled. The sender is dropped after this, and
        // the waiters begin again.
        self.end();
    }
}
