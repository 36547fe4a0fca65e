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

/// Returns a time in RFC 3339, in UTC.
pub fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().strftime("%FT%TZ").to_string()
}
