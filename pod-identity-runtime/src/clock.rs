//! The clock. Everything else takes the time as an argument.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use pod_identity_core::now::Now;
use tokio::sync::watch;

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

/// The clock that a part of a program goes by: the system's, or one that a [`Hand`] moves, so that hours
/// of renewals and key fetches take a moment, over real sockets too. Clones go together.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<ByHand>);

#[derive(Debug, Clone)]
struct ByHand {
    start: SystemTime,
    passed: watch::Receiver<Duration>,
}

/// Moves a clock; once it is dropped, the clock stands still.
#[derive(Debug)]
pub struct Hand(watch::Sender<Duration>);

impl Clock {
    /// A clock that stands at `start` until its hand moves.
    pub fn by_hand(start: SystemTime) -> (Hand, Self) {
        let (hand, passed) = watch::channel(Duration::ZERO);
        (Hand(hand), Self(Some(ByHand { start, passed })))
    }

    /// The time.
    pub fn now(&self) -> Now {
        let Some(ByHand { start, passed }) = &self.0 else { return both() };
        let passed = *passed.borrow();
        Now { wall: *start + passed, monotonic: passed }
    }

    /// Waits until that much time has passed on this clock.
    pub async fn sleep(&self, duration: Duration) {
        let Some(ByHand { passed, .. }) = &self.0 else { return tokio::time::sleep(duration).await };
        let mut passed = passed.clone();
        let end = passed.borrow().saturating_add(duration);
        if passed.wait_for(|passed| *passed >= end).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Hand {
    /// Moves the clock forward, and wakes who slept until then.
    pub fn advance(&self, duration: Duration) {
        self.0.send_modify(|passed| *passed = passed.saturating_add(duration));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_moves_by_its_hand_alone_and_wakes_who_slept_until_then() {
        let (hand, clock) = Clock::by_hand(SystemTime::UNIX_EPOCH);
        let slept = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_secs(3)).await;
                clock.now().monotonic
            }
        });
        tokio::task::yield_now().await; // it has begun to sleep
        hand.advance(Duration::from_secs(2));
        tokio::task::yield_now().await;
        assert!(!slept.is_finished());
        hand.advance(Duration::from_secs(1));
        assert_eq!(slept.await.unwrap(), Duration::from_secs(3));
        assert_eq!(clock.now().wall, SystemTime::UNIX_EPOCH + Duration::from_secs(3));
    }
}
