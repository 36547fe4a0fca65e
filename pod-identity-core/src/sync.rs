//! Primitives for threads, from the standard library and arc-swap. With `--cfg loom` they are loom's, for the tests
//! that try every order of the cache's steps.

#[cfg(loom)]
pub(crate) use self::modelled::*;
#[cfg(not(loom))]
pub(crate) use self::real::*;

use std::sync::PoisonError;

/// Takes a lock, even if a thread panicked with it: a panic of one request must not break the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::AtomicU64;
    #[cfg(feature = "service")]
    pub(crate) use std::sync::atomic::AtomicUsize;
    pub(crate) use std::sync::{Mutex, MutexGuard};

    pub(crate) use arc_swap::ArcSwapOption;
}

/// loom knows only its own primitives. A lock around the pointer replaces arc-swap, so that each load and each store
/// is one step. Steps inside arc-swap are not tested.
#[cfg(loom)]
mod modelled {
    pub(crate) use loom::sync::atomic::AtomicU64;
    #[cfg(feature = "service")]
    pub(crate) use loom::sync::atomic::AtomicUsize;
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    use std::hash::{BuildHasherDefault, DefaultHasher};
    use std::sync::Arc;

    /// loom repeats steps, so a map must have the same order each time.
    pub(crate) type RandomState = BuildHasherDefault<DefaultHasher>;
    pub(crate) type ArcSwapOption<T> = Swap<Option<Arc<T>>>;

    #[derive(Debug)]
    pub(crate) struct Swap<T>(Mutex<T>);

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
