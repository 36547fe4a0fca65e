//! Sessions by key, each in its slot: fetched once for all who want it, within a capacity.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::map::ShardedMap;
use super::{Denied, Entry, Expires, Refusal, Serving, Slot, SlotBegin, SlotLead, Waited};
use crate::now::Now;
use crate::sync::AtomicUsize;
use crate::token::TokenDigest;

/// How often a request begins whose leader was dropped: often enough for a leader that panics, and
/// not for ever.
const ATTEMPTS: usize = 3;

/// Minimum number of sessions that an eviction compares.
const COMPARED: usize = 64;
/// Maximum number of sessions that one request evicts: one for its own session, and one to catch up
/// after a time when all sessions were being fetched.
const EVICTIONS: usize = 2;

/// The bounds of a [`SessionCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCacheConfig {
    /// Maximum number of cached sessions. Beyond it, each new session evicts another one: of 64 that
    /// are compared in turn, the one requested longest ago. Sessions that are being fetched are not
    /// evicted.
    pub capacity: usize,
    /// Which of them are served.
    pub serving: Serving,
}

/// Sessions by key: read without a lock, fetched once for everybody who waits.
///
/// It knows no tokens. Whoever asks it has to know already that the one who asks may have what the key
/// stands for: [`CredentialCache`](super::CredentialCache) does by the tokens that it knows, an auth
/// service by verifying each token first. What decides about a session's content belongs into the key:
/// a changed association under the same key would be answered with what was issued before.
#[derive(Debug)]
pub struct SessionCache<K, V, E> {
    config: SessionCacheConfig,
    slots: ShardedMap<K, Slot<V, E>>,
    /// The part of the map that the next eviction looks at.
    compared: AtomicUsize,
}

/// Where a session that is served comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Fetched for this request.
    Fetched,
    /// Fetched for another request, which this one waited with.
    Shared,
    /// Fetched before, and still fresh.
    Cached,
    /// Fetched before; the upstream cannot be asked for a newer one.
    Stale,
}

impl Origin {
    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Shared => "shared",
            Self::Cached => "cached",
            Self::Stale => "stale",
        }
    }
}

/// A session to serve.
#[derive(Debug)]
pub struct Served<V> {
    /// The session.
    pub entry: Arc<Entry<V>>,
    /// Where it comes from.
    pub origin: Origin,
}

impl<K, V, E> SessionCache<K, V, E>
where
    K: Hash + Eq + Clone,
    V: Expires,
    E: Refusal,
{
    /// An empty cache.
    pub fn new(config: SessionCacheConfig) -> Self {
        let slots = ShardedMap::for_about(config.capacity);
        Self { config, slots, compared: AtomicUsize::new(0) }
    }

    /// What a request for that key is to do.
    pub fn begin(&self, key: &K, now: Now) -> SlotBegin<V, E> {
        self.begin_in_slot(key, None, now, |_| ()).0
    }

    /// The same for a request that came with a token; and the slot, which `prepare` has seen before.
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
            // Retired between the look-up and now. Whoever did that is about to take it out of the map:
            // not to wait for them, it is done here.
            self.slots.remove_if(key, |there| Arc::ptr_eq(there, &slot));
        }
    }

    /// The session under that key, fresh or stale, unless it has ended or ends within the margin: for
    /// whoever cannot wait for a fetch any longer. A refusal that has landed has taken it away.
    pub fn read(&self, key: &K, now: Now) -> Option<Arc<Entry<V>>> {
        self.slots.get(key)?.read(now, self.config.serving.margin)
    }

    /// What [`begin`](Self::begin) says, carried out: waits where others fetch, hands a lead to `fetch`,
    /// and begins again where a leader was dropped, at most twice.
    ///
    /// `fetch` must not block: it starts a task that fetches with a deadline and completes the lead, so
    /// that a request which is dropped cancels nothing.
    ///
    /// # Errors
    /// [`Denied`] says who refused.
    pub async fn get(
        &self,
        key: &K,
        now: impl Fn() -> Now,
        fetch: impl Fn(SlotLead<V, E>),
    ) -> Result<Served<V>, Denied<E>> {
        for _ in 0..ATTEMPTS {
            let (waiter, origin) = match self.begin(key, now()) {
                SlotBegin::Hit(entry) => return Ok(Served { entry, origin: Origin::Cached }),
                SlotBegin::Stale(entry) => return Ok(Served { entry, origin: Origin::Stale }),
                SlotBegin::Refused(error) => return Err(Denied::Upstream(error)),
                SlotBegin::Wait(waiter) => (waiter, Origin::Shared),
                SlotBegin::Lead(lead, waiter) => {
                    fetch(lead);
                    (waiter, Origin::Fetched)
                }
            };
            match waiter.wait().await {
                Waited::Value(entry) => return Ok(Served { entry, origin }),
                Waited::Stale(entry) => return Ok(Served { entry, origin: Origin::Stale }),
                Waited::Refused(error) => return Err(Denied::Upstream(error)),
                Waited::Again => {}
            }
        }
        Err(Denied::GivenUp)
    }

    #[cfg(feature = "verify")]
    pub(super) fn config(&self) -> &SessionCacheConfig {
        &self.config
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
        self.slots.get_or_insert_with(key, || Slot::asked_at(now))
    }

    #[cfg(feature = "verify")]
    pub(super) fn for_each(&self, visit: impl FnMut(&K, &Arc<Slot<V, E>>)) {
        self.slots.for_each(visit);
    }

    /// Evicts the session requested longest ago, of at least [`COMPARED`] or all sessions. The next
    /// eviction compares others, so the cost of a request does not grow with the cache.
    fn evict(&self) {
        let (mut oldest, mut asked) = (None, Duration::MAX);
        let first = self.compared.load(Ordering::Relaxed);
        let next = self.slots.for_some(first, COMPARED, |key, slot| {
            if slot.last_asked() < asked && !slot.is_in_flight() {
                asked = slot.last_asked();
                oldest = Some((key.clone(), slot.clone()));
            }
        });
        self.compared.store(next, Ordering::Relaxed);
        if let Some((key, slot)) = oldest
            && slot.retire_unless_in_flight()
        {
            self.slots.remove_if(&key, |there| Arc::ptr_eq(there, &slot));
        }
    }

    /// Drops a session: whoever asks next fetches. One that is being fetched goes to those who wait for
    /// it and is not kept.
    pub fn forget(&self, key: &K) {
        if let Some(slot) = self.slots.remove(key) {
            slot.retire();
        }
    }

    /// Drops the sessions whose key is not to be kept, as [`forget`](Self::forget) does.
    pub fn retain(&self, keep: impl Fn(&K) -> bool) {
        self.slots.retain(|key, slot| {
            let keep = keep(key);
            if !keep {
                slot.retire();
            }
            keep
        });
    }

    /// Drops what has ended and nobody fetches anew.
    pub fn sweep(&self, now: Now) {
        self.slots.retain(|_, slot| !slot.retire_if_idle(now, self.config.serving.margin));
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> &ShardedMap<K, Slot<V, E>> {
        &self.slots
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
