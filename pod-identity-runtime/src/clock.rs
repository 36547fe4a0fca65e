//! The clock. Everything else takes the time as an argument.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use pod_identity_core::now::Now;

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

/// Both clocks at once, the monotonic one counted from the process's first reading.
pub fn both() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(monotonic);
    Now { wall: now(), monotonic: start.elapsed() }
}
