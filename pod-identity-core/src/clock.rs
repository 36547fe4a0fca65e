//! The clocks of this machine, and a manual clock for tests.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::time::Now;

/// Reads both clocks. The monotonic clock counts from the first reading of the process.
#[allow(clippy::disallowed_methods)] // no other function reads clocks
pub fn system() -> Now {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    Now { wall: SystemTime::now(), monotonic: start.elapsed() }
}

/// The clocks of this machine, or a manual clock that a [`ClockControl`] moves. With a manual clock, a test of many
/// hours of renewals takes a moment, over real sockets too. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Manual>);

#[derive(Debug, Clone)]
struct Manual {
    start: SystemTime,
    passed: watch::Receiver<Duration>,
}

/// Moves a manual clock. After it is dropped, the clock stands still.
#[derive(Debug)]
pub struct ClockControl(watch::Sender<Duration>);

impl Clock {
    /// Makes a manual clock that stands at `start` until its control moves it.
    pub fn manual(start: SystemTime) -> (ClockControl, Self) {
        let (control, passed) = watch::channel(Duration::ZERO);
        (ClockControl(control), Self(Some(Manual { start, passed })))
    }

    /// Reads the time.
    pub fn now(&self) -> Now {
        let Some(Manual { start, passed }) = &self.0 else { return system() };
        let passed = *passed.borrow();
        Now { wall: *start + passed, monotonic: passed }
    }

    /// Waits until `duration` has passed on this clock.
    pub async fn sleep(&self, duration: Duration) {
        let Some(Manual { passed, .. }) = &self.0 else { return tokio::time::sleep(duration).await };
        let mut passed = passed.clone();
        let end = passed.borrow().saturating_add(duration);
        if passed.wait_for(|passed| *passed >= end).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl ClockControl {
    /// Moves the clock forward and wakes the tasks that sleep until then.
    pub fn advance(&self, duration: Duration) {
        self.0.send_modify(|passed| *passed = passed.saturating_add(duration));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn manual_clock_wakes_sleeping_tasks() {
        let (control, clock) = Clock::manual(SystemTime::UNIX_EPOCH);
        let slept = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_secs(3)).await;
                clock.now().monotonic
            }
        });
        tokio::task::yield_now().await; // the task begins to sleep
        control.advance(Duration::from_secs(2));
        tokio::task::yield_now().await;
        assert!(!slept.is_finished());
        control.advance(Duration::from_secs(1));
        assert_eq!(slept.await.unwrap(), Duration::from_secs(3));
        assert_eq!(clock.now().wall, SystemTime::UNIX_EPOCH + Duration::from_secs(3));
    }
}
