//! The provider's clock, for the path that every request of a client takes.

use std::time::{Duration, SystemTime};

use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use pod_identity_core::now::Now;

/// Both clocks: the system's, or a wall clock that was given, beside which tokio's stands as the monotonic
/// one, so that a test with paused time moves both.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    System,
    Given { wall: SharedTimeSource, start: tokio::time::Instant },
}

impl Clock {
    pub(crate) fn given(wall: SharedTimeSource) -> Self {
        Self::Given { wall, start: tokio::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        match self {
            Self::System => system(),
            Self::Given { wall, start } => Now { wall: wall.now(), monotonic: start.elapsed() },
        }
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        Self::now(self).wall
    }
}

/// The clocks as the kernel last ticked them, at most 10 ms ago (`clock_getres(2)`: `CLOCK_REALTIME_COARSE`).
/// Reading the processor's counter, as the standard library does, takes several times as long, and AWS's
/// expiries are whole seconds.
#[cfg(target_os = "linux")]
fn system() -> Now {
    use rustix::time::{ClockId, Timespec, clock_gettime};
    let since_start = |clock| {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
        // Neither clock is before its zero, and nanoseconds are fewer than a second's.
        Duration::new(u64::try_from(tv_sec).unwrap_or(0), u32::try_from(tv_nsec).unwrap_or(0))
    };
    Now {
        wall: SystemTime::UNIX_EPOCH + since_start(ClockId::RealtimeCoarse),
        monotonic: since_start(ClockId::MonotonicCoarse),
    }
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::disallowed_methods)] // the one clock of this crate
fn system() -> Now {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    Now { wall: SystemTime::now(), monotonic: START.get_or_init(Instant::now).elapsed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn the_systems_clock_is_that_of_the_standard_library() {
        let before = SystemTime::now() - Duration::from_millis(10);
        let now = Clock::System.now();
        assert!(before <= now.wall && now.wall <= SystemTime::now(), "{before:?} {now:?}");
        assert!(now.monotonic <= Clock::System.now().monotonic);
    }
}
