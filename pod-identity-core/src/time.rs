//! The time as an argument: the wall clock and the monotonic clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A value with an expiry that its issuer set.
pub trait Expires: Send + Sync + 'static {
    /// Returns the expiry.
    fn expires_at(&self) -> SystemTime;
}

impl<T: Expires> Expires for Arc<T> {
    fn expires_at(&self) -> SystemTime {
        (**self).expires_at()
    }
}

/// One reading of both clocks.
///
/// AWS's expiry times are by the wall clock, which can be set back. The monotonic clock cannot, but it stops while
/// some machines sleep. So an entry that has expired by either clock has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock.
    pub wall: SystemTime,
    /// Time since a fixed moment, the same moment for every reading of a process.
    pub monotonic: Duration,
}

/// An expiry by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    wall: SystemTime,
    monotonic: Duration,
}

impl Expiry {
    /// Converts an expiry by the wall clock of another machine.
    pub fn at(wall: SystemTime, now: Now) -> Self {
        let left = wall.duration_since(now.wall).unwrap_or_default();
        Self { wall, monotonic: now.monotonic.saturating_add(left) }
    }

    /// Returns whether it has passed, or passes within `margin`.
    pub fn is_over(&self, now: Now, margin: Duration) -> bool {
        self.left(now) <= margin
    }

    /// Returns the time that is left, by the clock with less of it.
    pub fn left(&self, now: Now) -> Duration {
        let by_wall = self.wall.duration_since(now.wall).unwrap_or_default();
        by_wall.min(self.monotonic.saturating_sub(now.monotonic))
    }

    /// Returns the expiry by the wall clock.
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
    fn expired_by_one_clock_is_expired() {
        let end = Expiry::at(UNIX_EPOCH + Duration::from_secs(1100), now(1000, 50));
        assert!(!end.is_over(now(1099, 149), Duration::ZERO));
        assert!(end.is_over(now(1100, 60), Duration::ZERO), "the wall clock was set forward");
        assert!(end.is_over(now(900, 150), Duration::ZERO), "the wall clock was set back");
        assert!(end.is_over(now(1085, 60), Duration::from_secs(15)));
        assert_eq!(end.left(now(1000, 149)), Duration::from_secs(1));
    }
}
