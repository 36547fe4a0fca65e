//! One identity's credentials: an entry, when to renew it, and the flight that fetches it.

#[cfg(feature = "verify")]
mod tokens;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::flight::Landing;
use super::{Effect, Entry, Expires, Refusal, Serving, Waiter};
use crate::backoff::{Backoff, random_fraction};
use crate::now::{Expiry, Now};
use crate::sync::{ArcSwapOption, AtomicU64, Mutex, MutexGuard, lock};
use crate::token::{BearerToken, TokenDigest};

/// The pauses after refusals and failed renewals in a row.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// How long the upstream must go on saying that an identity has no role, where one answer may be wrong.
const DOUBT: Duration = Duration::from_secs(30);
/// How long, at most, nobody asks again for an identity without credentials after the upstream could not
/// be asked: SDKs come back after a second or two, and should find out whether it can be now.
const NOT_ASKED_AGAIN: Duration = Duration::from_secs(1);

/// Credentials of one identity. A [`SessionCache`](super::SessionCache) is full of them, a provider
/// has a single one.
#[derive(Debug)]
pub struct Slot<V, E> {
    /// Written under the lock of the state.
    entry: ArcSwapOption<Entry<V>>,
    /// The last time it was asked for, in milliseconds of the monotonic clock.
    asked: AtomicU64,
    /// Written under the lock of the state.
    newest: ArcSwapOption<NewestToken>,
    state: Mutex<State<V, E>>,
}

/// The token of an identity that holds longest.
#[derive(Debug)]
#[cfg_attr(not(feature = "verify"), allow(dead_code))] // only what knows tokens renews
struct NewestToken {
    token: BearerToken,
    digest: TokenDigest,
    expiry: Expiry,
}

#[derive(Debug)]
struct State<V, E> {
    flight: Option<watch::Receiver<Option<Landing<V, E>>>>,
    /// What the upstream said of the identity, and until when it is not asked again.
    refusal: Option<(Arc<E>, Duration)>,
    /// Failed fetches in a row, and until when none is tried while there are credentials.
    failures: u32,
    pause: Duration,
    /// Since when the upstream has been saying that the identity has no role.
    doubted_since: Option<Duration>,
    /// Taken out of its map: nothing is kept in it any more.
    retired: bool,
    /// The tokens that are known to lead here, with their ends.
    #[cfg(feature = "verify")]
    tokens: Vec<(TokenDigest, Expiry)>,
}

/// What a request is to do.
#[derive(Debug)]
pub enum SlotBegin<V, E> {
    /// Serve these.
    Hit(Arc<Entry<V>>),
    /// Serve these: they are stale, but a moment ago the upstream could not be asked.
    Stale(Arc<Entry<V>>),
    /// Serve this: it was said a moment ago.
    Refused(Arc<E>),
    /// Wait with whoever is fetching.
    Wait(Waiter<V, E>),
    /// Fetch, and complete; the waiter is for this request itself.
    Lead(SlotLead<V, E>, Waiter<V, E>),
}

/// The right and the duty to fetch. Dropped without completing, it lets all who wait begin again.
#[derive(Debug)]
pub struct SlotLead<V, E> {
    slot: Arc<Slot<V, E>>,
    /// Whether the slot's flight is no longer this one.
    ended: bool,
    begun: Duration,
    /// What it was begun with.
    token: Option<TokenDigest>,
    margin: Duration,
    landing: watch::Sender<Option<Landing<V, E>>>,
}

impl<V: Expires, E: Refusal> Default for Slot<V, E> {
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
            newest: ArcSwapOption::empty(),
            state: Mutex::new(state),
        }
    }
}

impl<V: Expires, E: Refusal> Slot<V, E> {
    pub(super) fn asked_at(now: Now) -> Self {
        let slot = Self::default();
        slot.touch(now);
        slot
    }

    /// The entry, unless it has ended or ends within `margin`. One atomic load: no lock is taken.
    pub fn read(&self, now: Now, margin: Duration) -> Option<Arc<Entry<V>>> {
        self.entry.load_full().filter(|entry| !entry.expiry().is_over(now, margin))
    }

    /// What `look` sees in the entry, unless that has ended or ends within `margin`. No lock is taken and no
    /// reference counted: threads that look at once do not write to the same cache line.
    pub fn peek<R>(&self, now: Now, margin: Duration, look: impl FnOnce(&Entry<V>) -> R) -> Option<R> {
        let entry = self.entry.load();
        entry.as_ref().filter(|entry| !entry.expiry().is_over(now, margin)).map(|entry| look(entry))
    }

    fn fresh(&self, now: Now, serving: Serving) -> Option<Arc<Entry<V>>> {
        self.entry.load_full().filter(|entry| entry.is_fresh(now, serving))
    }

    /// What there is to serve without a lock; the slot counts as asked for.
    pub(super) fn hit(&self, now: Now, serving: Serving) -> Option<Arc<Entry<V>>> {
        self.touch(now);
        self.fresh(now, serving)
    }

    /// What a request is to do; `token` is the one it came with, where the upstream will judge tokens.
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

    /// The same for a slot of a map: `None` where it was taken out.
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

    /// The right to fetch ahead of need, whatever there is to serve: for whoever keeps a slot filled and
    /// knows when it is time. `None` while somebody fetches, or where a fetch has failed a moment ago.
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

    /// Takes an entry in, unless the one that is there was fetched by a flight that began later; gives
    /// the one that is there then. What ends earlier counts too: an association may have become shorter.
    /// A slot that was taken out of its map keeps nothing: those who know it must not be served from it.
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
        if of_token.is_some() && self.newest.load().as_ref().map(|kept| kept.digest) == of_token {
            // Nothing is renewed with it again, unless it is all that the pod comes with.
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
        // Where there is nothing to serve, each request would be a call.
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
        // Most requests of a busy identity find the time already there: no write, no shared cache line.
        if self.asked.load(Ordering::Relaxed) != asked {
            self.asked.store(asked, Ordering::Relaxed);
        }
    }

    pub(super) fn last_asked(&self) -> Duration {
        Duration::from_millis(self.asked.load(Ordering::Relaxed))
    }

    #[cfg(feature = "verify")]
    pub(super) fn is_retired(&self) -> bool {
        self.lock().retired
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.lock().flight.is_some()
    }

    /// Whether it is being fetched, or was refused a moment ago.
    #[cfg(feature = "verify")]
    pub(super) fn is_in_flight_or_refused(&self, now: Now) -> bool {
        let state = self.lock();
        state.flight.is_some() || state.refusal.as_ref().is_some_and(|(_, until)| now.monotonic < *until)
    }

    /// Empties a slot for ever: it is, or is about to be, no longer in its map. Known tokens may lead to
    /// it for as long as they hold; they find nothing here. A flight goes on for those who wait.
    pub(super) fn retire(&self) {
        self.retire_under(&mut self.lock());
    }

    /// The same, unless it is being fetched; says whether it did.
    pub(super) fn retire_unless_in_flight(&self) -> bool {
        let mut state = self.lock();
        let retires = state.flight.is_none();
        if retires {
            self.retire_under(&mut state);
        }
        retires
    }

    /// The same, if there is nothing in it worth keeping; says whether it did.
    pub(super) fn retire_if_idle(&self, now: Now, margin: Duration) -> bool {
        let mut state = self.lock();
        let refused =
            state.refusal.as_ref().is_some_and(|(_, until)| now.monotonic < *until + PAUSES.longest());
        let retires = state.flight.is_none() && !refused && self.read(now, margin).is_none();
        if retires {
            self.retire_under(&mut state);
        }
        retires
    }

    fn retire_under(&self, state: &mut State<V, E>) {
        state.retired = true;
        self.entry.store(None);
        self.newest.store(None);
    }

    fn lock(&self) -> MutexGuard<'_, State<V, E>> {
        lock(&self.state)
    }
}

impl<V: Expires, E: Refusal> SlotLead<V, E> {
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

    /// When the fetch began, by the monotonic clock.
    #[cfg(feature = "verify")]
    pub(super) fn begun(&self) -> Duration {
        self.begun
    }

    /// What is fetched for.
    #[cfg(feature = "verify")]
    pub(super) fn slot(&self) -> &Arc<Slot<V, E>> {
        &self.slot
    }

    /// Gives those who wait an entry that has been published.
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
        // A leader that was dropped, panicked or was cancelled. The sender is dropped after this, which
        // tells those who wait to begin again.
        self.end();
    }
}
