//! Which tokens are known to be good, which were just refused, and which are being judged.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::map::ShardedMap;
use super::{Expires, Refusal, Slot};
use crate::now::{Expiry, Now};
use crate::token::TokenDigest;

/// The most refused tokens that are remembered. Beyond, none is until some have been forgotten: a
/// flood of them must not cost memory.
const MAX_REFUSED: usize = 4096;

/// A token that was verified, or that the upstream accepted.
pub(super) struct KnownToken<K> {
    pub(super) identity: K,
    pub(super) expiry: Expiry,
}

impl<K> KnownToken<K> {
    pub(super) fn new(identity: K, expires_at: SystemTime, now: Now) -> Self {
        Self { identity, expiry: Expiry::at(expires_at, now) }
    }
}

pub(super) struct Tokens<K, V, E> {
    known: ShardedMap<TokenDigest, KnownToken<K>>,
    /// Counts how often all were forgotten: what was verified before that is not remembered after it.
    generation: AtomicU64,
    refused: Mutex<HashMap<TokenDigest, (Arc<E>, Duration)>>,
    unverified: Mutex<HashMap<TokenDigest, Arc<Slot<V, E>>>>,
}

impl<K, V, E> Default for Tokens<K, V, E> {
    fn default() -> Self {
        Self {
            known: ShardedMap::default(),
            generation: AtomicU64::new(0),
            refused: Mutex::default(),
            unverified: Mutex::default(),
        }
    }
}

impl<K: Hash + Eq + Clone, V: Expires, E: Refusal> Tokens<K, V, E> {
    pub(super) fn known(&self, token: &TokenDigest, now: Now) -> Option<Arc<KnownToken<K>>> {
        self.known.get(token).filter(|known| !known.expiry.is_over(now, Duration::ZERO))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Remembers a token, unless all were forgotten since `generation`.
    pub(super) fn remember(
        &self,
        token: TokenDigest,
        known: KnownToken<K>,
        generation: u64,
    ) -> Arc<KnownToken<K>> {
        let known = Arc::new(known);
        self.known.insert(&token, known.clone());
        if self.generation() != generation {
            self.known.remove(&token);
        }
        known
    }

    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.known.clear();
    }

    pub(super) fn refusal(&self, token: &TokenDigest, now: Now) -> Option<Arc<E>> {
        let refused = lock(&self.refused);
        refused.get(token).filter(|(_, until)| now.monotonic < *until).map(|(error, _)| error.clone())
    }

    pub(super) fn refuse(&self, token: TokenDigest, error: Arc<E>, until: Duration) {
        let mut refused = lock(&self.refused);
        if refused.len() < MAX_REFUSED || refused.contains_key(&token) {
            refused.insert(token, (error, until));
        }
    }

    /// The flights of tokens that nobody has judged yet.
    pub(super) fn unverified(&self) -> Unverified<'_, V, E> {
        Unverified(lock(&self.unverified))
    }

    pub(super) fn sweep(&self, now: Now) {
        self.known.retain(|_, known| !known.expiry.is_over(now, Duration::ZERO));
        lock(&self.refused).retain(|_, (_, until)| now.monotonic < *until);
        lock(&self.unverified).retain(|_, slot| slot.is_in_flight());
    }
}

pub(super) struct Unverified<'a, V, E>(MutexGuard<'a, HashMap<TokenDigest, Arc<Slot<V, E>>>>);

impl<V: Expires, E: Refusal> Unverified<'_, V, E> {
    pub(super) fn slot(&mut self, token: TokenDigest) -> Arc<Slot<V, E>> {
        self.0.entry(token).or_default().clone()
    }

    /// Forgets a flight that has ended; one that has begun since stays.
    pub(super) fn end(&mut self, token: &TokenDigest) {
        if self.0.get(token).is_some_and(|slot| !slot.is_in_flight()) {
            self.0.remove(token);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
impl<K: Hash + Eq + Clone, V: Expires, E: Refusal> Tokens<K, V, E> {
    /// Known, refused and unverified tokens.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.known.len(), lock(&self.refused).len(), lock(&self.unverified).len())
    }
}
