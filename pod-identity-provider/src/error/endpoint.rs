//! The error of an endpoint.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::failure::{Failure, Refusal};
use super::hints;

/// The endpoint returned no credentials: its last response, or the reason why there was none.
#[derive(Debug, Clone)]
pub struct EndpointError {
    pub(crate) endpoint: String,
    pub(crate) failure: Failure,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) took: Duration,
}

impl EndpointError {
    /// Returns scheme, host and port of the endpoint. Its path is a secret on Amazon ECS.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the HTTP status of the last response, unless that had status 200.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// Returns the endpoint's own message, if its last response has one.
    pub fn message(&self) -> Option<&str> {
        self.refusal().map(|refusal| &*refusal.message).filter(|message| !message.is_empty())
    }

    /// Returns the pause that the endpoint asks for (`Retry-After`), at most 30 s. `None` where it asks for none, and
    /// where the provider has waited for it. The provider does not wait beyond its deadline, nor after a final refusal.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the number of attempts.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the time from the first attempt to the error.
    pub fn took(&self) -> Duration {
        self.took
    }

    pub(super) fn code(&self) -> Option<&str> {
        self.refusal()?.code.as_deref()
    }

    pub(super) fn is_retryable(&self) -> bool {
        self.failure.is_retryable()
    }

    pub(super) fn cause(&self) -> String {
        let Self { endpoint, failure, attempts, took, .. } = self;
        let cause = format!("no credentials from {endpoint}: {}", failure.cause());
        match attempts {
            1 => cause,
            // Before the message, which may end with what to do.
            _ => format!("{attempts} attempts in {:.1} s, {cause}", took.as_secs_f64()),
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        hints::of(&self.failure, &self.endpoint)
    }

    fn refusal(&self) -> Option<&Refusal> {
        match &self.failure {
            Failure::Answer(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// The cause without the hint, which [`Error::hint`](crate::Error::hint) returns.
impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

impl StdError for EndpointError {}
