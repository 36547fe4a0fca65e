//! What threads share: the standard library's and arc-swap's, or, for the tests that try every order of the
//! cache's steps (`--cfg loom`), loom's.

#[cfg(loom)]
pub(crate) use self::modelled::*;
#[cfg(not(loom))]
pub(crate) use self::real::*;

use std::sync::PoisonError;

/// Takes a lock, also after a panic of somebody who held it: the end of one request must not be that of all.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(not(loom))]
mod real {
    pub(crate) use std::hash::RandomState;
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize};
    pub(crate) use std::sync::{Mutex, MutexGuard};

    pub(crate) use arc_swap::{ArcSwap, ArcSwapOption};
}

/// loom knows its own primitives only. arc-swap's stand-in is a lock around the pointer, so that each
/// load and each store is a step of its own; what arc-swap does within a step is its authors' to prove.
#[cfg(loom)]
mod modelled {
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize};
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    use std::hash::{BuildHasherDefault, DefaultHasher};
    use std::sync::Arc;

    /// loom repeats steps: a key has to be in the same part of a map each time.
    pub(crate) type RandomState = BuildHasherDefault<DefaultHasher>;
    pub(crate) type ArcSwap<T> = Swap<Arc<T>>;
    pub(crate) type ArcSwapOption<T> = Swap<Option<Arc<T>>>;

    #[derive(Debug)]
    pub(crate) struct Swap<T>(Mutex<T>);

    impl<T> Swap<Arc<T>> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }
    }

    impl<T> Swap<Option<Arc<T>>> {
        pub(crate) fn empty() -> Self {
            Self(Mutex::new(None))
        }
    }

    impl<T: Clone> Swap<T> {
        pub(crate) fn load(&self) -> T {
            self.0.lock().unwrap().clone()
        }

        pub(crate) fn load_full(&self) -> T {
            self.load()
        }

        pub(crate) fn store(&self, value: T) {
            *self.0.lock().unwrap() = value;
        }
    }
}
