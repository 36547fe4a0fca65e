//! The provider's clock.

use std::time::{Duration, SystemTime};

use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use pod_identity_core::time::Now;

/// The system's clocks, or the program's own wall clock. A custom wall clock is paired with tokio's monotonic clock, so
/// that tests with paused time control both.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    System,
    Custom { wall: SharedTimeSource, start: tokio::time::Instant },
}

impl Clock {
    pub(crate) fn custom(wall: SharedTimeSource) -> Self {
        Self::Custom { wall, start: tokio::time::Instant::now() }
    }

    /// Reads both clocks.
    pub(crate) fn now(&self) -> Now {
        match self {
            Self::System => system(),
            Self::Custom { wall, start } => Now { wall: wall.now(), monotonic: start.elapsed() },
        }
    }

    /// Reads the wall clock, in whole seconds since 1970 (UTC).
    pub(crate) fn unix_seconds(&self) -> u64 {
        match self {
            Self::System => system_unix_seconds(),
            Self::Custom { wall, .. } => unix_seconds_of(wall.now()),
        }
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        Self::now(self).wall
    }
}

/// Returns the whole seconds from 1970 (UTC) to a time.
pub(crate) fn unix_seconds_of(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Reads the kernel's coarse clocks, which are at most 10 ms late (`clock_getres(2)`, `CLOCK_REALTIME_COARSE`). They are
/// several times faster than the standard library's clocks, and AWS's expiry times are whole seconds.
#[cfg(target_os = "linux")]
fn system() -> Now {
    use rustix::time::{ClockId, Timespec, clock_gettime};
    let since_start = |clock| {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
        // The kernel returns no negative numbers, and fewer than 10^9 nanoseconds.
        Duration::new(u64::try_from(tv_sec).unwrap_or(0), u32::try_from(tv_nsec).unwrap_or(0))
    };
    Now {
        wall: SystemTime::UNIX_EPOCH + since_start(ClockId::RealtimeCoarse),
        monotonic: since_start(ClockId::MonotonicCoarse),
    }
}

#[cfg(target_os = "linux")]
fn system_unix_seconds() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::disallowed_methods)] // the only clock of this crate
fn system() -> Now {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    Now { wall: SystemTime::now(), monotonic: START.get_or_init(Instant::now).elapsed() }
}

#[cfg(not(target_os = "linux"))]
fn system_unix_seconds() -> u64 {
    unix_seconds_of(system().wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn system_clock_agrees_with_the_standard_library() {
        let before = SystemTime::now() - Duration::from_millis(10);
        let now = Clock::System.now();
        assert!(before <= now.wall && now.wall <= SystemTime::now(), "{before:?} {now:?}");
        assert!(now.monotonic <= Clock::System.now().monotonic);
        let seconds = Clock::System.unix_seconds();
        assert!(
            (unix_seconds_of(before)..=unix_seconds_of(SystemTime::now())).contains(&seconds),
            "{seconds}"
        );
    }
}
