//! What is said of failures, and not for each of them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::failure::ReadFailure;

/// How long a failure of one kind is not said again. Metrics count each.
const PAUSE: Duration = Duration::from_secs(60);

/// When what was said last, by kind.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<&'static str, Instant>>);

impl Complaints {
    /// Whether a failure of this kind has not been said for a while; it is said now, then.
    pub(super) fn is_due(&self, failure: &ReadFailure, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said.get(failure.as_str()).is_none_or(|last| now.saturating_duration_since(*last) >= PAUSE);
        if due {
            said.insert(failure.as_str(), now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_is_said_once_a_minute() {
        let (complaints, start) = (Complaints::default(), pod_identity_runtime::clock::monotonic());
        let connection = || ReadFailure::Connection("as the test says".to_owned());
        let due = |failure, seconds| complaints.is_due(&failure, start + Duration::from_secs(seconds));
        assert!(due(connection(), 0));
        assert!(!due(connection(), 59));
        assert!(due(ReadFailure::Deadline, 59));
        assert!(due(connection(), 60));
        assert!(!due(connection(), 100));
        assert!(!due(ReadFailure::Deadline, 118));
    }
}
