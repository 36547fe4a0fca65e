//! The error of one attempt.

use std::error::Error as StdError;
use std::time::Duration;

use crate::error::{EndpointError, Error, Failure};

/// The error of one attempt.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// The error occurred before a request was sent.
    Error(Error),
    /// The request failed, or the endpoint refused.
    Failure {
        failure: Failure,
        /// The pause that the endpoint asks for.
        retry_after: Option<Duration>,
    },
}

impl AttemptError {
    /// Classifies an error that occurred before the response. An error of this crate comes from the default resolver, which
    /// needs a runtime.
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        match Error::of(error) {
            Some(inner) => inner.clone().into(),
            None => Failure::of_request(error).into(),
        }
    }

    /// Returns whether another attempt may succeed.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Error(error) => error.is_retryable(),
            Self::Failure { failure, .. } => failure.is_retryable(),
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Error(_) => None,
            Self::Failure { retry_after, .. } => *retry_after,
        }
    }

    /// Returns the error without its pause, after the pause has passed.
    pub(super) fn without_retry_after(self) -> Self {
        match self {
            Self::Failure { failure, .. } => failure.into(),
            error @ Self::Error(_) => error,
        }
    }

    /// Returns the cause, for the log.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::Error(error) => error.to_string(),
            Self::Failure { failure, .. } => failure.cause(),
        }
    }

    /// Returns the error of a fetch whose last attempt ended with this error. `endpoint` is scheme, host and port.
    pub(super) fn into_error(self, endpoint: String, attempts: u32, took: Duration) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Failure { failure, retry_after } => {
                Error::Endpoint(EndpointError { endpoint, failure, retry_after, attempts, took })
            }
        }
    }
}

impl From<Error> for AttemptError {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Failure> for AttemptError {
    fn from(failure: Failure) -> Self {
        Self::Failure { failure, retry_after: None }
    }
}
