//! The clocks of the binaries, and a manual clock for tests, from the core.

use std::time::{Instant, SystemTime};

pub use pod_identity_core::clock::{Clock, ClockControl, system as both};

/// Returns the time of the wall clock.
#[allow(clippy::disallowed_methods)]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Returns the time of the monotonic clock, for durations.
#[allow(clippy::disallowed_methods)]
pub fn monotonic() -> Instant {
    Instant::now()
}
