//! The session cache: one slot for each key, within a capacity.

use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::map::SharedMap;
use super::{Entry, Serving, Slot, SlotBegin};
use crate::error::UpstreamError;
use crate::sync::{Mutex, lock};
use crate::time::{Expires, Now};
use crate::token::TokenDigest;

/// Maximum number of sessions that an eviction compares.
const EVICTION_CANDIDATES: usize = 64;
/// Maximum number of sessions that one request evicts. One makes room for its own session, the other catches up after
/// a time when all sessions were in flight.
const EVICTIONS: usize = 2;

/// The bounds of a [`SessionCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCacheConfig {
    /// Maximum number of cached sessions. Beyond it, each new session evicts the least recently requested one of 64
    /// others. Sessions in flight are not evicted.
    pub capacity: usize,
    /// Limits for serving a session.
    pub serving: Serving,
}

/// Sessions by key. Reads take no lock, and each key has one flight.
///
/// The cache does not check tokens. The caller must know that the requester may have the session:
/// [`CredentialCache`](super::CredentialCache) knows it by the token, and an auth service verifies each token first.
/// Everything that determines a session must be in the key. Otherwise a changed association would be served with
/// credentials of the old one.
#[derive(Debug)]
pub struct SessionCache<K, V, E> {
    config: SessionCacheConfig,
    slots: SharedMap<K, Slot<V, E>>,
    /// The sessions in the order in which evictions compare them. Sessions that have left the map stay in the queue
    /// until an eviction reaches them, or until they are more than half of the queue.
    queue: Mutex<VecDeque<Queued<K, V, E>>>,
}

/// A session in the eviction queue.
#[derive(Debug)]
struct Queued<K, V, E> {
    key: K,
    slot: Weak<Slot<V, E>>,
    /// Time of its last request when it was queued, by the monotonic clock.
    requested: Duration,
}

impl<K, V, E> SessionCache<K, V, E>
where
    K: Hash + Eq + Clone,
    V: Expires,
    E: UpstreamError,
{
    /// Makes an empty cache.
    pub fn new(config: SessionCacheConfig) -> Self {
        Self { config, slots: SharedMap::new(), queue: Mutex::new(VecDeque::new()) }
    }

    /// Begins a request for a key.
    pub fn begin(&self, key: &K, now: Now) -> SlotBegin<V, E> {
        self.begin_in_slot(key, None, now, |_| ()).0
    }

    /// Begins a request with a token. Also returns the slot. `prepare` is called with the slot before the request
    /// begins.
    pub(super) fn begin_in_slot(
        &self,
        key: &K,
        token: Option<TokenDigest>,
        now: Now,
        prepare: impl Fn(&Slot<V, E>),
    ) -> (SlotBegin<V, E>, Arc<Slot<V, E>>) {
        loop {
            let slot = self.slot(key, now);
            prepare(&slot);
            if let Some(begun) = slot.begin_in_map(token, now, self.config.serving) {
                return (begun, slot);
            }
            // Another thread has just retired the slot and is about to remove it from the map. This request does not
            // wait for that thread.
            self.slots.remove_if(key, |there| Arc::ptr_eq(there, &slot));
        }
    }

    /// Returns the session of a key, fresh or stale, unless it expires within the margin. It is for a request that
    /// cannot wait any longer. After a refusal there is none.
    pub fn read(&self, key: &K, now: Now) -> Option<Arc<Entry<V>>> {
        self.slots.get(key)?.read(now, self.config.serving.margin)
    }

    pub(super) fn slot(&self, key: &K, now: Now) -> Arc<Slot<V, E>> {
        if let Some(slot) = self.slots.get(key) {
            return slot;
        }
        for _ in 0..EVICTIONS {
            if self.slots.len() >= self.config.capacity {
                self.evict();
            }
        }
        let new = Arc::new(Slot::requested_at(now));
        let slot = self.slots.get_or_insert(key, new.clone());
        if Arc::ptr_eq(&slot, &new) {
            let mut queue = lock(&self.queue);
            if queue.len() > 2 * self.slots.len() + EVICTION_CANDIDATES {
                queue.retain(|queued| in_map(&queued.slot).is_some());
            }
            queue.push_back(Queued {
                key: key.clone(),
                slot: Arc::downgrade(&slot),
                requested: slot.last_requested(),
            });
        }
        slot
    }

    #[cfg(feature = "verify")]
    pub(super) fn for_each(&self, visit: impl FnMut(&K, &Arc<Slot<V, E>>)) {
        self.slots.for_each(visit);
    }

    /// Evicts the least recently requested of the next [`EVICTION_CANDIDATES`] sessions. Sessions that were requested
    /// since they were queued move to the end of the queue. So the cost of a request does not grow with the cache.
    fn evict(&self) {
        let mut queue = lock(&self.queue);
        let mut oldest: Option<(K, Arc<Slot<V, E>>)> = None;
        let mut idle = Vec::with_capacity(EVICTION_CANDIDATES);
        for _ in 0..queue.len().min(EVICTION_CANDIDATES) {
            let Some(Queued { key, slot: weak, requested }) = queue.pop_front() else { break };
            let Some(slot) = in_map(&weak) else { continue };
            let (last, in_flight) = (slot.last_requested(), slot.is_in_flight());
            let queued = Queued { key: key.clone(), slot: weak, requested: last };
            if last > requested || in_flight {
                queue.push_back(queued);
            } else {
                idle.push(queued);
            }
            if !in_flight && oldest.as_ref().is_none_or(|(_, oldest)| last < oldest.last_requested()) {
                oldest = Some((key, slot));
            }
        }
        idle.into_iter().rev().for_each(|queued| queue.push_front(queued));
        drop(queue);
        if let Some((key, slot)) = oldest
            && slot.retire_unless_in_flight()
        {
            self.slots.remove_if(&key, |there| Arc::ptr_eq(there, &slot));
        }
    }

    /// Drops a session. The next request is an upstream call. A flight in progress serves its waiters, and its session
    /// is not cached.
    pub fn forget(&self, key: &K) {
        if let Some(slot) = self.slots.remove(key) {
            slot.retire();
        }
    }

    /// Drops the session of each key for which `keep` returns false, as [`forget`](Self::forget) does.
    pub fn retain(&self, keep: impl Fn(&K) -> bool) {
        self.slots.retain(|key, slot| {
            let keep = keep(key);
            if !keep {
                slot.retire();
            }
            keep
        });
    }

    /// Drops expired sessions that are not in flight.
    pub fn sweep(&self, now: Now) {
        self.slots.retain(|_, slot| !slot.retire_if_idle(now, self.config.serving.margin));
    }

    #[cfg(all(test, feature = "verify"))]
    pub(super) fn slots(&self) -> &SharedMap<K, Slot<V, E>> {
        &self.slots
    }

    /// Returns the number of sessions.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether there are no sessions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Returns the slot if it is still in its map.
fn in_map<V: Expires, E: UpstreamError>(slot: &Weak<Slot<V, E>>) -> Option<Arc<Slot<V, E>>> {
    slot.upgrade().filter(|slot| !slot.is_retired())
}
