//! The provider's clock.

use std::time::{Duration, SystemTime};

use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use pod_identity_core::time::Now;

/// The system's clocks, or a wall clock that the program gave. Beside a given one tokio's clock is the monotonic one, so
/// that a test with paused time moves both.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    System,
    Given { wall: SharedTimeSource, start: tokio::time::Instant },
}

impl Clock {
    pub(crate) fn given(wall: SharedTimeSource) -> Self {
        Self::Given { wall, start: tokio::time::Instant::now() }
    }

    /// Reads both clocks.
    pub(crate) fn now(&self) -> Now {
        match self {
            Self::System => system(),
            Self::Given { wall, start } => Now { wall: wall.now(), monotonic: start.elapsed() },
        }
    }

    /// Reads the wall clock, in whole seconds since 1970.
    pub(crate) fn second(&self) -> u64 {
        match self {
            Self::System => system_second(),
            Self::Given { wall, .. } => second_of(wall.now()),
        }
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        Self::now(self).wall
    }
}

/// Returns the whole seconds from 1970 to a time.
pub(crate) fn second_of(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Reads the clocks of the kernel's last tick, at most 10 ms ago (`clock_getres(2)`, `CLOCK_REALTIME_COARSE`). The
/// standard library reads the processor's counter, which takes several times as long, and AWS's expiries are whole
/// seconds.
#[cfg(target_os = "linux")]
fn system() -> Now {
    use rustix::time::{ClockId, Timespec, clock_gettime};
    let since_start = |clock| {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
        // Neither clock is negative, and there are fewer nanoseconds than a second has.
        Duration::new(u64::try_from(tv_sec).unwrap_or(0), u32::try_from(tv_nsec).unwrap_or(0))
    };
    Now {
        wall: SystemTime::UNIX_EPOCH + since_start(ClockId::RealtimeCoarse),
        monotonic: since_start(ClockId::MonotonicCoarse),
    }
}

#[cfg(target_os = "linux")]
fn system_second() -> u64 {
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
fn system_second() -> u64 {
    second_of(system().wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn the_system_clock_agrees_with_the_standard_library() {
        let before = SystemTime::now() - Duration::from_millis(10);
        let now = Clock::System.now();
        assert!(before <= now.wall && now.wall <= SystemTime::now(), "{before:?} {now:?}");
        assert!(now.monotonic <= Clock::System.now().monotonic);
        let second = Clock::System.second();
        assert!((second_of(before)..=second_of(SystemTime::now())).contains(&second), "{second}");
    }
}
