//! A map that is read without a lock, and written by copying one of its parts.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// Parts. A write copies one of them: of 2,000 identities about 30, of 100,000 about 1,600.
const SHARDS: usize = 64;

pub(super) struct ShardedMap<K, T> {
    hasher: RandomState,
    shards: Box<[Shard<K, T>]>,
    len: AtomicUsize,
}

struct Shard<K, T> {
    map: ArcSwap<HashMap<K, Arc<T>>>,
    writing: Mutex<()>,
}

impl<K, T> Default for ShardedMap<K, T> {
    fn default() -> Self {
        let shard = || Shard { map: ArcSwap::from_pointee(HashMap::new()), writing: Mutex::new(()) };
        Self {
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            len: AtomicUsize::new(0),
        }
    }
}

impl<K: Hash + Eq + Clone, T> ShardedMap<K, T> {
    pub(super) fn get(&self, key: &K) -> Option<Arc<T>> {
        self.shard(key).map.load().get(key).cloned()
    }

    /// What is there; or `make`'s, if nothing is.
    pub(super) fn get_or_insert_with(&self, key: &K, make: impl FnOnce() -> T) -> Arc<T> {
        self.write(key, |map| {
            if let Some(there) = map.get(key) {
                return (None, there.clone());
            }
            let new = Arc::new(make());
            let mut copy = map.clone();
            copy.insert(key.clone(), new.clone());
            (Some(copy), new)
        })
    }

    pub(super) fn insert(&self, key: &K, value: Arc<T>) {
        self.write(key, |map| {
            let mut copy = map.clone();
            copy.insert(key.clone(), value);
            (Some(copy), ())
        });
    }

    pub(super) fn remove(&self, key: &K) {
        self.write(key, |map| {
            if !map.contains_key(key) {
                return (None, ());
            }
            let mut copy = map.clone();
            copy.remove(key);
            (Some(copy), ())
        });
    }

    pub(super) fn clear(&self) {
        self.retain(|_, _| false);
    }

    pub(super) fn retain(&self, keep: impl Fn(&K, &T) -> bool) {
        for shard in &self.shards {
            shard.write(&self.len, |map| {
                let kept: HashMap<K, Arc<T>> = map
                    .iter()
                    .filter(|(key, value)| keep(key, value))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                ((kept.len() != map.len()).then_some(kept), ())
            });
        }
    }

    /// Every pair, as of some moment for each part.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&K, &Arc<T>)) {
        for shard in &self.shards {
            for (key, value) in shard.map.load().iter() {
                visit(key, value);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &K) -> &Shard<K, T> {
        #[allow(clippy::cast_possible_truncation)]
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        &self.shards[index]
    }

    fn write<R>(
        &self,
        key: &K,
        change: impl FnOnce(&HashMap<K, Arc<T>>) -> (Option<HashMap<K, Arc<T>>>, R),
    ) -> R {
        self.shard(key).write(&self.len, change)
    }
}

impl<K, T> std::fmt::Debug for ShardedMap<K, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardedMap").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<K, T> Shard<K, T> {
    /// One writer at a time; readers go on with the old part until the new one is stored.
    fn write<R>(
        &self,
        len: &AtomicUsize,
        change: impl FnOnce(&HashMap<K, Arc<T>>) -> (Option<HashMap<K, Arc<T>>>, R),
    ) -> R {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.map.load_full();
        let (changed, result) = change(&before);
        if let Some(changed) = changed {
            len.fetch_add(changed.len(), Ordering::Relaxed);
            len.fetch_sub(before.len(), Ordering::Relaxed);
            self.map.store(Arc::new(changed));
        }
        result
    }
}
