//! The clocks of this machine, and a clock that tests move.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::time::Now;

/// Reads both clocks. The monotonic clock counts from the process's first reading.
#[allow(clippy::disallowed_methods)] // the one place that reads clocks
pub fn system() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    Now { wall: SystemTime::now(), monotonic: start.elapsed() }
}

/// The system's clocks, or a clock that a [`Hand`] moves. With a hand, a test of many hours of renewals and key
/// fetches takes a moment, over real sockets too. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<ByHand>);

#[derive(Debug, Clone)]
struct ByHand {
    start: SystemTime,
    passed: watch::Receiver<Duration>,
}

/// Moves a clock. When it is dropped, the clock stands still.
#[derive(Debug)]
pub struct Hand(watch::Sender<Duration>);

impl Clock {
    /// Makes a clock that stands at `start` until its hand moves.
    pub fn by_hand(start: SystemTime) -> (Hand, Self) {
        let (hand, passed) = watch::channel(Duration::ZERO);
        (Hand(hand), Self(Some(ByHand { start, passed })))
    }

    /// Reads the time.
    pub fn now(&self) -> Now {
        let Some(ByHand { start, passed }) = &self.0 else { return system() };
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
    /// Moves the clock forward and wakes the tasks that sleep until then.
    pub fn advance(&self, duration: Duration) {
        self.0.send_modify(|passed| *passed = passed.saturating_add(duration));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clock_moves_by_its_hand_and_wakes_sleeping_tasks() {
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
