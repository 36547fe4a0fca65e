//! Log lines about faults that last.

use std::time::Duration;

/// Time between two log lines about one fault.
pub const FAULT_REPEAT: Duration = Duration::from_secs(60 * 60);

/// A fault that may last. It is logged when it begins and once an hour until it ends. Times are those of a monotonic
/// clock.
#[derive(Debug, Default)]
pub struct Fault(Option<Lasting>);

#[derive(Debug)]
struct Lasting {
    since: Duration,
    logged: Duration,
}

impl Fault {
    /// Records a failure. Returns how long the fault has lasted if a log line is due.
    pub fn failed(&mut self, now: Duration) -> Option<Duration> {
        match &mut self.0 {
            Some(lasting) if now.saturating_sub(lasting.logged) < FAULT_REPEAT => None,
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
    pub fn succeeded(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_a_fault_when_it_begins_and_once_an_hour_until_it_ends() {
        let mut fault = Fault::default();
        assert!(!fault.succeeded());
        let every_five_seconds = (0..=2 * 60 * 60).step_by(5).map(Duration::from_secs);
        let logged: Vec<_> = every_five_seconds.filter_map(|now| fault.failed(now)).collect();
        assert_eq!(logged, [Duration::ZERO, FAULT_REPEAT, 2 * FAULT_REPEAT]);
        assert!(fault.succeeded() && !fault.succeeded());
        assert_eq!(fault.failed(3 * FAULT_REPEAT), Some(Duration::ZERO));
    }
}
