//! The error of a credentials endpoint.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use super::failure::{EndpointRefusal, Failure};
use super::hints;

/// The endpoint could not be called, or refused. The error describes the last attempt.
#[derive(Debug, Clone)]
pub struct EndpointError {
    pub(crate) endpoint: String,
    pub(crate) failure: Failure,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) took: Duration,
}

impl EndpointError {
    /// Returns scheme, host and port of the endpoint. The path is not included, because it is a secret on Amazon ECS.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the HTTP status of the refusal. Returns `None` if the endpoint did not refuse.
    pub fn status(&self) -> Option<u16> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// Returns the endpoint's message, if its last response has one.
    pub fn message(&self) -> Option<&str> {
        self.refusal().map(|refusal| &*refusal.message).filter(|message| !message.is_empty())
    }

    /// Returns the remaining pause that the endpoint asks for (`Retry-After`), at most 30 s. Returns `None` if the endpoint
    /// asked for none, or if the provider has already waited. The provider does not wait after a final refusal, and not for
    /// a pause beyond its deadline.
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
            // The attempts come first, because the message may end with a fix.
            _ => format!("{attempts} attempts in {:.1} s, {cause}", took.as_secs_f64()),
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        hints::of(&self.failure, &self.endpoint)
    }

    fn refusal(&self) -> Option<&EndpointRefusal> {
        match &self.failure {
            Failure::Refusal(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// Prints the cause. [`Error::hint`](crate::Error::hint) returns the fix.
impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

impl StdError for EndpointError {}
