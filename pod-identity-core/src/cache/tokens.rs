//! Which tokens are known to be good, which were just refused, and which are being judged.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::map::ShardedMap;
use super::{Entry, Expires, Refusal, Serving, Slot};
use crate::now::{Expiry, Now};
use crate::sync::{AtomicU64, Mutex, MutexGuard, lock};
use crate::token::TokenDigest;

/// Maximum number of remembered refused tokens, and of unverified tokens with a remembered failed
/// fetch. Beyond it, no token is remembered until some have expired, so that a flood costs no memory.
const MAX_REFUSED: usize = 4096;
/// Minimum time between two removals of expired refusals, so that a flood of refusals does not scan all
/// of them each time.
const ROOM_TICK: Duration = Duration::from_secs(1);

/// A token that was verified, or that the upstream accepted: whose it is, and the way to the credentials.
pub(super) struct KnownToken<K, V, E> {
    pub(super) identity: K,
    pub(super) expiry: Expiry,
    /// The identity's slot, so that a hit looks for nothing more. One that was taken out of the map is
    /// empty for ever, and whoever finds it so looks for the identity's.
    pub(super) slot: Arc<Slot<V, E>>,
}

impl<K, V: Expires, E: Refusal> KnownToken<K, V, E> {
    /// What it leads to without a lock. For renewals a token has to be kept: where none is, this is no hit
    /// but a reason to keep this one.
    fn hit(&self, now: Now, serving: Serving) -> Option<Arc<Entry<V>>> {
        if self.expiry.is_over(now, Duration::ZERO) || !self.slot.keeps_token() {
            return None;
        }
        self.slot.hit(now, serving)
    }
}

pub(super) struct Tokens<K, V, E> {
    known: ShardedMap<TokenDigest, KnownToken<K, V, E>>,
    /// Counts how often all were forgotten: what was verified before that is not remembered after it.
    generation: AtomicU64,
    refused: Mutex<Bounded<(Arc<E>, Duration)>>,
    /// Those that are being fetched, and those whose fetch failed a moment ago.
    unverified: Mutex<Bounded<Arc<Slot<V, E>>>>,
}

/// Short-lived data about tokens.
struct Bounded<T> {
    tokens: HashMap<TokenDigest, T>,
    /// Time of the next removal of expired records.
    room_at: Duration,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { tokens: HashMap::new(), room_at: Duration::ZERO }
    }
}

impl<T> Bounded<T> {
    /// Whether there is room for one more record, after expired ones were dropped.
    fn has_room(&mut self, now: Now, keep: impl Fn(&T) -> bool) -> bool {
        if self.tokens.len() >= MAX_REFUSED && now.monotonic >= self.room_at {
            self.room_at = now.monotonic + ROOM_TICK;
            self.tokens.retain(|_, kept| keep(kept));
        }
        self.tokens.len() < MAX_REFUSED
    }
}

impl<K: Hash + Eq + Clone, V: Expires, E: Refusal> Tokens<K, V, E> {
    /// No tokens yet, of about so many identities.
    pub(super) fn for_about(identities: usize) -> Self {
        Self {
            known: ShardedMap::for_about(identities),
            generation: AtomicU64::new(0),
            refused: Mutex::default(),
            unverified: Mutex::default(),
        }
    }

    /// The credentials that a known token leads to: no lock is taken, and one reference counted, that to
    /// the entry.
    pub(super) fn hit(&self, token: &TokenDigest, now: Now, serving: Serving) -> Option<Arc<Entry<V>>> {
        self.known.read(token, |known| known.hit(now, serving)).flatten()
    }

    pub(super) fn known(&self, token: &TokenDigest, now: Now) -> Option<Arc<KnownToken<K, V, E>>> {
        self.known.get(token).filter(|known| !known.expiry.is_over(now, Duration::ZERO))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Remembers a token, unless all were forgotten since `generation`.
    pub(super) fn remember(
        &self,
        token: TokenDigest,
        known: KnownToken<K, V, E>,
        generation: u64,
    ) -> Arc<KnownToken<K, V, E>> {
        let known = Arc::new(known);
        if self.generation() != generation || !self.admit(token, &known) {
            return known;
        }
        self.known.insert(&token, known.clone());
        // Again: all may have been forgotten between the first look and the insertion.
        if self.generation() != generation {
            self.known.remove(&token);
        }
        known
    }

    /// Leads a known token to its identity's new slot; unless it has been forgotten meanwhile.
    pub(super) fn lead_to(&self, token: TokenDigest, old: &Arc<KnownToken<K, V, E>>, slot: Arc<Slot<V, E>>) {
        let known = KnownToken { identity: old.identity.clone(), expiry: old.expiry, slot };
        if self.admit(token, &known) {
            self.known.replace(&token, old, Arc::new(known));
        }
    }

    /// Whether there is room for one more token of that identity; another one may have to go for it.
    fn admit(&self, token: TokenDigest, known: &KnownToken<K, V, E>) -> bool {
        match known.slot.admit(token, known.expiry) {
            Some(forgotten) => {
                self.known.remove(&forgotten);
                forgotten != token
            }
            None => true,
        }
    }

    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.known.clear();
    }

    pub(super) fn refusal(&self, token: &TokenDigest, now: Now) -> Option<Arc<E>> {
        let refused = lock(&self.refused);
        refused.tokens.get(token).filter(|(_, until)| now.monotonic < *until).map(|(error, _)| error.clone())
    }

    /// Remembers a refusal for a while. A token that was refused is not known any more: so hits need not
    /// ask for refusals, and after that while it is judged anew.
    pub(super) fn refuse(&self, token: TokenDigest, error: Arc<E>, memory: Duration, now: Now) {
        {
            let mut refused = lock(&self.refused);
            if refused.tokens.contains_key(&token)
                || refused.has_room(now, |(_, until)| now.monotonic < *until)
            {
                refused.tokens.insert(token, (error, now.monotonic + memory));
            }
        }
        self.known.remove(&token);
    }

    /// The flights of tokens that nobody has judged yet.
    pub(super) fn unverified(&self) -> Unverified<'_, V, E> {
        Unverified(lock(&self.unverified))
    }

    /// Drops what has ended, and the tokens whose way leads to nothing any more: they cost a call anyway.
    pub(super) fn sweep(&self, now: Now) {
        self.known.retain(|_, known| !known.expiry.is_over(now, Duration::ZERO) && !known.slot.is_retired());
        lock(&self.refused).tokens.retain(|_, (_, until)| now.monotonic < *until);
        lock(&self.unverified).tokens.retain(|_, slot| slot.is_in_flight_or_refused(now));
    }
}

pub(super) struct Unverified<'a, V, E>(MutexGuard<'a, Bounded<Arc<Slot<V, E>>>>);

impl<V: Expires, E: Refusal> Unverified<'_, V, E> {
    pub(super) fn slot(&mut self, token: TokenDigest) -> Arc<Slot<V, E>> {
        self.0.tokens.entry(token).or_default().clone()
    }

    /// Forgets a flight that has ended. A flight that began since then stays. With `failure`, the slot
    /// stays while its failure is the answer.
    pub(super) fn end(&mut self, token: &TokenDigest, failure: bool, now: Now) {
        let keep = |slot: &Arc<Slot<V, E>>| slot.is_in_flight_or_refused(now);
        let Some(slot) = self.0.tokens.get(token) else { return };
        if slot.is_in_flight() || (failure && self.0.has_room(now, keep)) {
            return;
        }
        self.0.tokens.remove(token);
    }
}

#[cfg(test)]
impl<K: Hash + Eq + Clone, V: Expires, E: Refusal> Tokens<K, V, E> {
    /// Known, refused and unverified tokens.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.known.len(), lock(&self.refused).tokens.len(), lock(&self.unverified).tokens.len())
    }
}
