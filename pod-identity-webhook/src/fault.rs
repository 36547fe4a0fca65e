//! Faults that last: logged when they begin, and once an hour until they end.

use std::time::Duration;

/// Time between two log lines about one fault.
pub(crate) const REPEAT: Duration = Duration::from_secs(60 * 60);

/// A fault that may last. Times are those of a monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Fault(Option<Lasting>);

#[derive(Debug)]
struct Lasting {
    since: Duration,
    logged: Duration,
}

impl Fault {
    /// Records a failure. Returns how long the fault has lasted if a log line is due.
    pub(crate) fn failed(&mut self, now: Duration) -> Option<Duration> {
        match &mut self.0 {
            Some(lasting) if now.saturating_sub(lasting.logged) < REPEAT => None,
            Some(lasting) => {
                lasting.logged = now;
                Some(now.saturating_sub(lasting.since))
            }
            None => {
                self.0 = Some(Lasting { since: now, logged: now });
                Some(Duration::ZERO)
            }
        }
    }

    /// Records a success. Returns whether it ends a fault.
    pub(crate) fn succeeded(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_logged_when_it_begins_and_once_an_hour_until_it_ends() {
        let mut fault = Fault::default();
        assert!(!fault.succeeded());
        let every_five_seconds = (0..=2 * 60 * 60).step_by(5).map(Duration::from_secs);
        let logged: Vec<_> = every_five_seconds.filter_map(|now| fault.failed(now)).collect();
        assert_eq!(logged, [Duration::ZERO, REPEAT, 2 * REPEAT]);
        assert!(fault.succeeded() && !fault.succeeded());
        assert_eq!(fault.failed(3 * REPEAT), Some(Duration::ZERO));
    }
}
