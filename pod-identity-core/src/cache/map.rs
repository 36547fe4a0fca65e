//! A concurrent map without locks.

use std::hash::Hash;
use std::sync::Arc;

/// A concurrent map of shared values, from papaya. Reads and writes take no lock, and a write copies no part of the
/// map. Under loom, a map with a lock replaces it, so that each operation is one step. Steps inside papaya are not
/// tested here.
pub(super) struct SharedMap<K, T>(Inner<K, T>);

#[cfg(not(loom))]
type Inner<K, T> = papaya::HashMap<K, Arc<T>>;
#[cfg(loom)]
type Inner<K, T> = crate::sync::Mutex<std::collections::HashMap<K, Arc<T>, crate::sync::RandomState>>;

#[cfg(not(loom))]
impl<K: Hash + Eq + Clone, T> SharedMap<K, T> {
    pub(super) fn new() -> Self {
        Self(papaya::HashMap::new())
    }

    /// Reads a value without incrementing its reference count.
    pub(super) fn read<R>(&self, key: &K, look: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
        self.0.pin().get(key).map(look)
    }

    /// Returns the value of a key, or inserts `value` if there is none.
    pub(super) fn get_or_insert(&self, key: &K, value: Arc<T>) -> Arc<T> {
        self.0.pin().get_or_insert(key.clone(), value).clone()
    }

    #[cfg(feature = "verify")]
    pub(super) fn insert(&self, key: &K, value: Arc<T>) {
        self.0.pin().insert(key.clone(), value);
    }

    /// Replaces a value, if it is `old`.
    #[cfg(feature = "verify")]
    pub(super) fn replace(&self, key: &K, old: &Arc<T>, new: &Arc<T>) {
        use papaya::Operation;
        let _ = self.0.pin().compute(key.clone(), |current| match current {
            Some((_, current)) if Arc::ptr_eq(current, old) => Operation::Insert(new.clone()),
            _ => Operation::Abort(()),
        });
    }

    pub(super) fn remove(&self, key: &K) -> Option<Arc<T>> {
        self.0.pin().remove(key).cloned()
    }

    pub(super) fn remove_if(&self, key: &K, wanted: impl Fn(&Arc<T>) -> bool) {
        let _ = self.0.pin().remove_if(key, |_, value| wanted(value));
    }

    /// Removes the pairs for which `keep` returns false. It may call `keep` more than once for a pair.
    pub(super) fn retain(&self, keep: impl Fn(&K, &T) -> bool) {
        self.0.pin().retain(|key, value| keep(key, value));
    }

    /// Visits every pair. The pairs are not a snapshot of one moment.
    #[cfg(feature = "verify")]
    pub(super) fn for_each(&self, mut visit: impl FnMut(&K, &Arc<T>)) {
        self.0.pin().iter().for_each(|(key, value)| visit(key, value));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(loom)]
impl<K: Hash + Eq + Clone, T> SharedMap<K, T> {
    pub(super) fn new() -> Self {
        Self(crate::sync::Mutex::new(std::collections::HashMap::default()))
    }

    pub(super) fn read<R>(&self, key: &K, look: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
        let found = self.0.lock().unwrap().get(key).cloned();
        found.as_ref().map(look)
    }

    pub(super) fn get_or_insert(&self, key: &K, value: Arc<T>) -> Arc<T> {
        self.0.lock().unwrap().entry(key.clone()).or_insert(value).clone()
    }

    pub(super) fn insert(&self, key: &K, value: Arc<T>) {
        self.0.lock().unwrap().insert(key.clone(), value);
    }

    pub(super) fn replace(&self, key: &K, old: &Arc<T>, new: &Arc<T>) {
        if let Some(current) = self.0.lock().unwrap().get_mut(key).filter(|current| Arc::ptr_eq(current, old))
        {
            *current = new.clone();
        }
    }

    pub(super) fn remove(&self, key: &K) -> Option<Arc<T>> {
        self.0.lock().unwrap().remove(key)
    }

    pub(super) fn remove_if(&self, key: &K, wanted: impl Fn(&Arc<T>) -> bool) {
        let mut map = self.0.lock().unwrap();
        if map.get(key).is_some_and(wanted) {
            map.remove(key);
        }
    }

    /// Calls `keep` without the map's lock, as papaya does, because `keep` takes other locks.
    pub(super) fn retain(&self, keep: impl Fn(&K, &T) -> bool) {
        let pairs: Vec<_> =
            self.0.lock().unwrap().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        for (key, value) in pairs.iter().filter(|(key, value)| !keep(key, value)) {
            self.remove_if(key, |current| Arc::ptr_eq(current, value));
        }
    }

    pub(super) fn for_each(&self, mut visit: impl FnMut(&K, &Arc<T>)) {
        let pairs: Vec<_> =
            self.0.lock().unwrap().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        pairs.iter().for_each(|(key, value)| visit(key, value));
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl<K: Hash + Eq + Clone, T> SharedMap<K, T> {
    pub(super) fn get(&self, key: &K) -> Option<Arc<T>> {
        self.read(key, Arc::clone)
    }

    #[cfg(feature = "verify")]
    pub(super) fn clear(&self) {
        self.retain(|_, _| false);
    }
}

impl<K, T> std::fmt::Debug for SharedMap<K, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedMap").finish_non_exhaustive()
    }
}
