//! Whether the watch still sees what happens. It has no clock: the time is an argument.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pod_identity_runtime::logs::FAULT_REPEAT;

use crate::knowledge::failure::ReadFailure;

/// How long a watch may fail before what it has seen may be old. Connections are lost and made again, and API
/// servers start anew; mostly that takes a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it has to go well for a failure to be over. A request that is accepted may still bring what nobody
/// can read, each time it is made again.
const STEADY: Duration = Duration::from_secs(5);

/// How the watch's requests fare. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// When a request last succeeded, or the program began.
    answered: Instant,
    failing: Option<Failing>,
}

/// Failures with no time to speak of between them.
#[derive(Debug)]
struct Failing {
    since: Instant,
    logged: Instant,
    last: ReadFailure,
    /// When it went well again, if it does.
    well: Option<Instant>,
}

impl Failing {
    fn is_over(&self, now: Instant) -> bool {
        self.well.is_some_and(|well| now.saturating_duration_since(well) >= STEADY)
    }
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(State { answered: now, failing: None })))
    }

    /// A request was answered, of whichever kind.
    pub(super) fn answered(&self, now: Instant) {
        self.lock().answered = now;
    }

    /// The API server watches for us: everything has been listed, a watch request was accepted, or told something.
    /// Says whether that follows a failure.
    pub(super) fn watches(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let failing = state.failing.as_mut().filter(|failing| failing.well.is_none());
        failing.map(|failing| failing.well = Some(now)).is_some()
    }

    /// Records a failure of the watch. Returns whether to log it: the first of several failures, and one each hour
    /// after it.
    pub(super) fn failed(&self, failure: ReadFailure, now: Instant) -> bool {
        let mut state = self.lock();
        match &mut state.failing {
            Some(failing) if !failing.is_over(now) => {
                (failing.last, failing.well) = (failure, None);
                let due = now.saturating_duration_since(failing.logged) >= FAULT_REPEAT;
                if due {
                    failing.logged = now;
                }
                due
            }
            failing => {
                *failing = Some(Failing { since: now, logged: now, last: failure, well: None });
                true
            }
        }
    }

    /// Why what was seen may be old, where the watch has failed for too long.
    pub(super) fn failure(&self, now: Instant) -> Option<ReadFailure> {
        let state = self.lock();
        let failing = state.failing.as_ref().filter(|failing| !failing.is_over(now))?;
        let too_long = now.saturating_duration_since(failing.since) > PATIENCE;
        too_long.then(|| failing.last.clone())
    }

    /// How long no request has succeeded.
    pub(super) fn silent(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.lock().answered)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use pod_identity_runtime::kubernetes::ApiFailure;

    use super::*;

    /// A watch's health and its time.
    struct Stand(Health, Instant);

    impl Stand {
        fn new() -> Self {
            let start = pod_identity_runtime::clock::monotonic();
            Self(Health::new(start), start)
        }

        fn at(&self, second: u64) -> Instant {
            self.1 + Duration::from_secs(second)
        }

        fn fails(&self, second: u64) -> bool {
            self.0.failed(ApiFailure::Connection(format!("at {second}")).into(), self.at(second))
        }

        fn failure(&self, second: u64) -> Option<String> {
            self.0.failure(self.at(second)).map(|failure| failure.to_string())
        }
    }

    #[test]
    fn what_was_seen_may_be_old_after_half_a_minute_of_failures_and_no_longer_once_it_is_steady() {
        let stand = Stand::new();
        assert_eq!(stand.failure(3600), None, "silence is no failure");
        assert!(stand.fails(10));
        assert!(!stand.fails(20));
        assert_eq!(stand.failure(40), None);
        assert!(stand.failure(41).unwrap().contains("at 20"));
        assert!(stand.0.watches(stand.at(50)));
        assert!(!stand.0.watches(stand.at(54)));
        assert!(stand.failure(54).is_some());
        assert_eq!(stand.failure(55), None);
        assert!(stand.fails(60), "a failure of its own");
        assert_eq!(stand.failure(90), None);
        assert!(stand.failure(91).is_some());
    }

    #[test]
    fn requests_that_are_accepted_and_fail_each_time_are_one_failure() {
        let stand = Stand::new();
        for second in 0..20 {
            assert_eq!(stand.fails(2 * second), second == 0);
            stand.0.watches(stand.at(2 * second + 1));
            assert_eq!(stand.failure(2 * second + 1).is_some(), 2 * second + 1 > 30);
        }
    }

    #[test]
    fn a_watch_that_keeps_failing_is_logged_once_an_hour() {
        let stand = Stand::new();
        let logged: Vec<_> = (0..=7200).step_by(10).filter(|second| stand.fails(*second)).collect();
        assert_eq!(logged, [0, 3600, 7200]);
    }

    #[test]
    fn silence_counts_from_the_last_answer() {
        let stand = Stand::new();
        assert_eq!(stand.0.silent(stand.at(7)), Duration::from_secs(7));
        stand.0.answered(stand.at(60));
        stand.fails(61);
        assert_eq!(stand.0.silent(stand.at(70)), Duration::from_secs(10));
    }
}
