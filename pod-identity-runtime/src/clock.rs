//! The clock. Everything else takes the time as an argument.

use std::time::{Instant, SystemTime};

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
