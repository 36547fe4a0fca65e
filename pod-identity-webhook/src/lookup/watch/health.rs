//! Whether the watch is current. The time is an argument.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pod_identity_runtime::logs::FAULT_REPEAT;

use crate::lookup::failure::ReadFailure;

/// Time of failures after which the watch is not current. A lost connection or a restart of the API server usually takes a
/// second.
const MAX_FAILING: Duration = Duration::from_secs(30);
/// Time of success after which a failure is over. A request may be accepted again and again and then bring an object that
/// cannot be parsed.
const STEADY: Duration = Duration::from_secs(5);

/// The results of the watch's requests. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Time of the last successful request, or of the start.
    answered: Instant,
    failing: Option<Failing>,
}

/// Failures without [`STEADY`] success between them.
#[derive(Debug)]
struct Failing {
    since: Instant,
    logged: Instant,
    last: ReadFailure,
    /// Time of the first success after the last failure.
    recovered: Option<Instant>,
}

impl Failing {
    fn is_over(&self, now: Instant) -> bool {
        self.recovered.is_some_and(|since| now.saturating_duration_since(since) >= STEADY)
    }
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(State { answered: now, failing: None })))
    }

    /// Records a successful request of any kind.
    pub(super) fn answered(&self, now: Instant) {
        self.lock().answered = now;
    }

    /// Records that the watch works: a list is complete, a watch request was accepted, or an event came. Returns whether
    /// that follows a failure.
    pub(super) fn watches(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let failing = state.failing.as_mut().filter(|failing| failing.recovered.is_none());
        failing.map(|failing| failing.recovered = Some(now)).is_some()
    }

    /// Records a failure of the watch. Returns whether to log it: the first of several failures, and one each hour
    /// after it.
    pub(super) fn failed(&self, failure: ReadFailure, now: Instant) -> bool {
        let mut state = self.lock();
        match &mut state.failing {
            Some(failing) if !failing.is_over(now) => {
                (failing.last, failing.recovered) = (failure, None);
                let due = now.saturating_duration_since(failing.logged) >= FAULT_REPEAT;
                if due {
                    failing.logged = now;
                }
                due
            }
            failing => {
                *failing = Some(Failing { since: now, logged: now, last: failure, recovered: None });
                true
            }
        }
    }

    /// Returns the last failure if the watch has failed for too long.
    pub(super) fn failure(&self, now: Instant) -> Option<ReadFailure> {
        let state = self.lock();
        let failing = state.failing.as_ref().filter(|failing| !failing.is_over(now))?;
        let too_long = now.saturating_duration_since(failing.since) > MAX_FAILING;
        too_long.then(|| failing.last.clone())
    }

    /// Returns the time since the last successful request.
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

    /// A [`Health`] and its start.
    struct Fixture(Health, Instant);

    impl Fixture {
        fn new() -> Self {
            let start = pod_identity_runtime::clock::monotonic();
            Self(Health::new(start), start)
        }

        fn at(&self, second: u64) -> Instant {
            self.1 + Duration::from_secs(second)
        }

        fn fail(&self, second: u64) -> bool {
            self.0.failed(ApiFailure::Connection(format!("at {second}")).into(), self.at(second))
        }

        fn failure(&self, second: u64) -> Option<String> {
            self.0.failure(self.at(second)).map(|failure| failure.to_string())
        }
    }

    #[test]
    fn is_stale_after_30_s_of_failures_until_the_watch_is_steady() {
        let fixture = Fixture::new();
        assert_eq!(fixture.failure(3600), None, "silence is no failure");
        assert!(fixture.fail(10));
        assert!(!fixture.fail(20));
        assert_eq!(fixture.failure(40), None);
        assert!(fixture.failure(41).unwrap().contains("at 20"));
        assert!(fixture.0.watches(fixture.at(50)));
        assert!(!fixture.0.watches(fixture.at(54)));
        assert!(fixture.failure(54).is_some());
        assert_eq!(fixture.failure(55), None);
        assert!(fixture.fail(60), "a new failure");
        assert_eq!(fixture.failure(90), None);
        assert!(fixture.failure(91).is_some());
    }

    #[test]
    fn a_watch_that_starts_and_fails_again_is_one_failure() {
        let fixture = Fixture::new();
        for second in 0..20 {
            assert_eq!(fixture.fail(2 * second), second == 0);
            fixture.0.watches(fixture.at(2 * second + 1));
            assert_eq!(fixture.failure(2 * second + 1).is_some(), 2 * second + 1 > 30);
        }
    }

    #[test]
    fn logs_a_lasting_failure_once_an_hour() {
        let fixture = Fixture::new();
        let logged: Vec<_> = (0..=7200).step_by(10).filter(|second| fixture.fail(*second)).collect();
        assert_eq!(logged, [0, 3600, 7200]);
    }

    #[test]
    fn measures_silence_from_the_last_response() {
        let fixture = Fixture::new();
        assert_eq!(fixture.0.silent(fixture.at(7)), Duration::from_secs(7));
        fixture.0.answered(fixture.at(60));
        fixture.fail(61);
        assert_eq!(fixture.0.silent(fixture.at(70)), Duration::from_secs(10));
    }
}
