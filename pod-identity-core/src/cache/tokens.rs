//! Known tokens, refused tokens, and flights of unverified tokens.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::map::SharedMap;
use super::{Entry, Serving, Slot};
use crate::error::UpstreamError;
use crate::sync::{AtomicU64, Mutex, MutexGuard, lock};
use crate::time::{Expires, Expiry, Now};
use crate::token::TokenDigest;

/// Maximum number of remembered refused tokens, and of unverified tokens with a remembered failure. Beyond it, no
/// token is remembered until some have expired. The limit bounds the memory during a flood.
const MAX_REFUSED: usize = 4096;
/// Minimum time between two removals of expired records, so that a flood does not scan all records each time.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(1);

/// A token that keys verified or the upstream accepted, with its identity and its slot.
pub(super) struct KnownToken<K, V, E> {
    pub(super) identity: K,
    pub(super) expiry: Expiry,
    /// The slot of the identity, so that a hit needs no second lookup. A retired slot stays empty, and then the
    /// request looks the identity up.
    pub(super) slot: Arc<Slot<V, E>>,
}

impl<K, V: Expires, E: UpstreamError> KnownToken<K, V, E> {
    /// Returns fresh credentials without a lock. A slot without a token for renewals has no hit, so that the request
    /// stores its token.
    fn hit(&self, now: Now, serving: Serving) -> Option<Arc<Entry<V>>> {
        if self.expiry.is_over(now, Duration::ZERO) || !self.slot.keeps_token() {
            return None;
        }
        self.slot.hit(now, serving)
    }
}

pub(super) struct Tokens<K, V, E> {
    known: SharedMap<TokenDigest, KnownToken<K, V, E>>,
    /// Number of times that all tokens were forgotten. A token that was verified before is not remembered after it.
    generation: AtomicU64,
    refused: Mutex<Bounded<(Arc<E>, Duration)>>,
    /// Flights of unverified tokens, and recent failures.
    unverified: Mutex<Bounded<Arc<Slot<V, E>>>>,
}

/// Short-lived data about tokens.
struct Bounded<T> {
    tokens: HashMap<TokenDigest, T>,
    /// Time of the next removal of expired records.
    cleanup_at: Duration,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { tokens: HashMap::new(), cleanup_at: Duration::ZERO }
    }
}

impl<T> Bounded<T> {
    /// Returns whether there is room for one more record, after removal of expired ones.
    fn has_room(&mut self, now: Now, keep: impl Fn(&T) -> bool) -> bool {
        if self.tokens.len() >= MAX_REFUSED && now.monotonic >= self.cleanup_at {
            self.cleanup_at = now.monotonic + CLEANUP_INTERVAL;
            self.tokens.retain(|_, kept| keep(kept));
        }
        self.tokens.len() < MAX_REFUSED
    }
}

impl<K: Hash + Eq + Clone, V: Expires, E: UpstreamError> Tokens<K, V, E> {
    /// Makes an empty set.
    pub(super) fn new() -> Self {
        Self {
            known: SharedMap::new(),
            generation: AtomicU64::new(0),
            refused: Mutex::default(),
            unverified: Mutex::default(),
        }
    }

    /// Returns the credentials of a known token. It takes no lock and increments one reference count, that of the
    /// entry.
    pub(super) fn hit(&self, token: &TokenDigest, now: Now, serving: Serving) -> Option<Arc<Entry<V>>> {
        self.known.read(token, |known| known.hit(now, serving)).flatten()
    }

    pub(super) fn known(&self, token: &TokenDigest, now: Now) -> Option<Arc<KnownToken<K, V, E>>> {
        self.known.get(token).filter(|known| !known.expiry.is_over(now, Duration::ZERO))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Remembers a token, unless all tokens were forgotten since `generation`.
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
        // Checked again, because all tokens may have been forgotten since the first check.
        if self.generation() != generation {
            self.known.remove(&token);
        }
        known
    }

    /// Updates the slot of a known token, unless the token has been forgotten meanwhile.
    pub(super) fn update_slot(
        &self,
        token: TokenDigest,
        old: &Arc<KnownToken<K, V, E>>,
        slot: Arc<Slot<V, E>>,
    ) {
        let known = KnownToken { identity: old.identity.clone(), expiry: old.expiry, slot };
        if self.admit(token, &known) {
            self.known.replace(&token, old, &Arc::new(known));
        }
    }

    /// Returns whether there is room for the token. The identity may forget another token for it.
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

    /// Remembers a refusal for a while. A refused token is no longer known, so a hit does not check refusals. After
    /// that while the token is verified again.
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

    /// Locks the flights of unverified tokens.
    pub(super) fn unverified(&self) -> Unverified<'_, V, E> {
        Unverified(lock(&self.unverified))
    }

    /// Drops expired records, and tokens of retired slots, whose next request is a call anyway.
    pub(super) fn sweep(&self, now: Now) {
        self.known.retain(|_, known| !known.expiry.is_over(now, Duration::ZERO) && !known.slot.is_retired());
        lock(&self.refused).tokens.retain(|_, (_, until)| now.monotonic < *until);
        lock(&self.unverified).tokens.retain(|_, slot| slot.is_in_flight_or_refused(now));
    }
}

pub(super) struct Unverified<'a, V, E>(MutexGuard<'a, Bounded<Arc<Slot<V, E>>>>);

impl<V: Expires, E: UpstreamError> Unverified<'_, V, E> {
    pub(super) fn slot(&mut self, token: TokenDigest) -> Arc<Slot<V, E>> {
        self.0.tokens.entry(token).or_default().clone()
    }

    /// Forgets a flight that has ended. A flight that began since then stays. With `failure`, the slot stays while
    /// further requests get its failure.
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
impl<K: Hash + Eq + Clone, V: Expires, E: UpstreamError> Tokens<K, V, E> {
    /// Returns the numbers of known, refused and unverified tokens.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.known.len(), lock(&self.refused).tokens.len(), lock(&self.unverified).tokens.len())
    }
}
