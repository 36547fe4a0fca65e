//! A map that is read without a lock, and written by copying one of its parts.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sync::{ArcSwap, AtomicUsize, Mutex, RandomState, lock};

/// How many pairs a part has when the map is full. A write copies a part, so this is what a write costs;
/// among 100,000 identities in 64 parts it would be some 1,600 pairs. Time of a write among 100,000 and
/// among 2,000: `cargo run --release -p benches -- rotation`.
const PAIRS_OF_A_SHARD: usize = 32;
/// The fewest and the most parts: an empty one takes about a hundred bytes.
const FEWEST_SHARDS: usize = 16;
const MOST_SHARDS: usize = 8192;

pub(super) struct ShardedMap<K, T> {
    hasher: RandomState,
    shards: Box<[Shard<K, T>]>,
    len: AtomicUsize,
}

struct Shard<K, T> {
    map: ArcSwap<HashMap<K, Arc<T>, RandomState>>,
    writing: Mutex<()>,
}

impl<K: Hash + Eq + Clone, T> ShardedMap<K, T> {
    /// An empty map in which writes are fast up to about so many pairs.
    pub(super) fn for_about(pairs: usize) -> Self {
        // A power of two: which part a key is in is a mask and not a division.
        let shards = (pairs / PAIRS_OF_A_SHARD).clamp(FEWEST_SHARDS, MOST_SHARDS).next_power_of_two();
        let hasher = RandomState::default();
        let shard = || Shard {
            map: ArcSwap::from_pointee(HashMap::with_hasher(hasher.clone())),
            writing: Mutex::new(()),
        };
        let shards = std::iter::repeat_with(shard).take(shards).collect();
        Self { hasher, shards, len: AtomicUsize::new(0) }
    }

    pub(super) fn get(&self, key: &K) -> Option<Arc<T>> {
        self.read(key, Arc::clone)
    }

    /// Looks at what is there, without counting a reference to it.
    pub(super) fn read<R>(&self, key: &K, look: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
        self.shard(key).map.load().get(key).map(look)
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

    #[cfg(feature = "verify")]
    pub(super) fn insert(&self, key: &K, value: Arc<T>) {
        self.write(key, |map| {
            let mut copy = map.clone();
            copy.insert(key.clone(), value);
            (Some(copy), ())
        });
    }

    /// Puts a value in another's place, if that is what is there.
    #[cfg(feature = "verify")]
    pub(super) fn replace(&self, key: &K, old: &Arc<T>, new: Arc<T>) {
        self.write(key, |map| {
            if !map.get(key).is_some_and(|there| Arc::ptr_eq(there, old)) {
                return (None, ());
            }
            let mut copy = map.clone();
            copy.insert(key.clone(), new);
            (Some(copy), ())
        });
    }

    pub(super) fn remove(&self, key: &K) -> Option<Arc<T>> {
        self.remove_if(key, |_| true)
    }

    pub(super) fn remove_if(&self, key: &K, wanted: impl FnOnce(&Arc<T>) -> bool) -> Option<Arc<T>> {
        self.write(key, |map| {
            if !map.get(key).is_some_and(wanted) {
                return (None, None);
            }
            let mut copy = map.clone();
            let removed = copy.remove(key);
            (Some(copy), removed)
        })
    }

    #[cfg(feature = "verify")]
    pub(super) fn clear(&self) {
        self.retain(|_, _| false);
    }

    pub(super) fn retain(&self, keep: impl Fn(&K, &T) -> bool) {
        for shard in &self.shards {
            shard.write(&self.len, |map| {
                let goes: Vec<&K> =
                    map.iter().filter(|(key, value)| !keep(key, value)).map(|(key, _)| key).collect();
                if goes.is_empty() {
                    return (None, ());
                }
                let mut copy = map.clone();
                for key in goes {
                    copy.remove(key);
                }
                (Some(copy), ())
            });
        }
    }

    /// Every pair, as of some moment for each part.
    #[cfg(feature = "verify")]
    pub(super) fn for_each(&self, mut visit: impl FnMut(&K, &Arc<T>)) {
        for shard in &self.shards {
            for (key, value) in shard.map.load().iter() {
                visit(key, value);
            }
        }
    }

    /// Visits pairs of whole parts, from the part `first` on, until there were at least so many or all
    /// there are. Returns the part to go on with.
    pub(super) fn for_some(&self, first: usize, pairs: usize, mut visit: impl FnMut(&K, &Arc<T>)) -> usize {
        let mut visited = 0;
        for part in first..first + self.shards.len() {
            if visited >= pairs {
                return part % self.shards.len();
            }
            for (key, value) in self.shards[part % self.shards.len()].map.load().iter() {
                visit(key, value);
                visited += 1;
            }
        }
        first
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &K) -> &Shard<K, T> {
        // By other bits than those by which a part's own map goes: with the same ones, all keys of a part
        // would fall into a few of its places.
        #[allow(clippy::cast_possible_truncation)]
        let index = self.hasher.hash_one(key).rotate_left(32) as usize & (self.shards.len() - 1);
        &self.shards[index]
    }

    fn write<R>(
        &self,
        key: &K,
        change: impl FnOnce(&HashMap<K, Arc<T>, RandomState>) -> (Option<HashMap<K, Arc<T>, RandomState>>, R),
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
        change: impl FnOnce(&HashMap<K, Arc<T>, RandomState>) -> (Option<HashMap<K, Arc<T>, RandomState>>, R),
    ) -> R {
        let _writing = lock(&self.writing);
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
