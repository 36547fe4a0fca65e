//! The time, as an argument: a wall clock and a monotonic one.

use std::time::{Duration, SystemTime};

/// One reading of both clocks.
///
/// The wall clock says what AWS's expiry times mean; the monotonic one cannot be set back. What is
/// dead by either of them is dead: a clock that was set back must not revive credentials, and a
/// machine that slept must not serve what ended meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock.
    pub wall: SystemTime,
    /// Time since some fixed moment, the same for every reading of a process.
    pub monotonic: Duration,
}

/// An end, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    wall: SystemTime,
    monotonic: Duration,
}

impl Expiry {
    /// The end that somebody else's clock has set, seen now.
    pub fn at(wall: SystemTime, now: Now) -> Self {
        let left = wall.duration_since(now.wall).unwrap_or_default();
        Self { wall, monotonic: now.monotonic.saturating_add(left) }
    }

    /// Whether it is over, or will be within `margin`.
    pub fn is_over(&self, now: Now, margin: Duration) -> bool {
        self.left(now) <= margin
    }

    /// How long it is until then, by the clock that says less.
    pub fn left(&self, now: Now) -> Duration {
        let by_wall = self.wall.duration_since(now.wall).unwrap_or_default();
        by_wall.min(self.monotonic.saturating_sub(now.monotonic))
    }

    /// The end by the wall clock.
    pub fn wall(&self) -> SystemTime {
        self.wall
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn now(wall: u64, monotonic: u64) -> Now {
        Now { wall: UNIX_EPOCH + Duration::from_secs(wall), monotonic: Duration::from_secs(monotonic) }
    }

    #[test]
    fn what_is_over_by_one_clock_is_over() {
        let end = Expiry::at(UNIX_EPOCH + Duration::from_secs(1100), now(1000, 50));
        assert!(!end.is_over(now(1099, 149), Duration::ZERO));
        assert!(end.is_over(now(1100, 60), Duration::ZERO), "the wall clock was set forward");
        assert!(end.is_over(now(900, 150), Duration::ZERO), "the wall clock was set back");
        assert!(end.is_over(now(1085, 60), Duration::from_secs(15)));
        assert_eq!(end.left(now(1000, 149)), Duration::from_secs(1));
    }
}
