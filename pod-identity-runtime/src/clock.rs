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

/// Returns a time in RFC 3339, in UTC.
pub fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().strftime("%FT%TZ").to_string()
}
