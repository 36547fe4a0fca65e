//! The clock of the binaries, and one that tests move: the core's.

use std::time::{Instant, SystemTime};

pub use pod_identity_core::clock::{Clock, Hand, system as both};

/// The wall clock.
#[allow(clippy::disallowed_methods)]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// The monotonic clock, for durations.
#[allow(clippy::disallowed_methods)]
pub fn monotonic() -> Instant {
    Instant::now()
}
