//! Limits log lines about failed reads.

use std::time::Instant;

use super::failure::ReadFailure;
use crate::repeat_limiter::RepeatLimiter;

/// Allows one line per kind of failure and minute.
#[derive(Debug, Default)]
pub(super) struct Complaints(RepeatLimiter<&'static str>);

impl Complaints {
    /// Returns whether a line about this failure may be written now.
    pub(super) fn is_due(&self, failure: &ReadFailure, now: Instant) -> bool {
        self.0.allow(failure.as_str(), now).is_some()
    }
}
