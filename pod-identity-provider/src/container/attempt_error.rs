//! The result of one attempt that brought no credentials.

use std::error::Error as StdError;
use std::time::Duration;

use crate::error::{EndpointError, Error, Failure};

/// The reason why one attempt brought no credentials.
#[derive(Debug)]
pub(super) enum Fault {
    /// No request was sent.
    Error(Error),
    Failure {
        failure: Failure,
        /// The pause that the endpoint asks for.
        retry_after: Option<Duration>,
    },
}

impl Fault {
    /// Classifies an error before the response. One of this crate is the resolver's: there is no runtime.
    pub(super) fn of(error: &(dyn StdError + 'static)) -> Self {
        match Error::of(error) {
            Some(inner) => inner.clone().into(),
            None => Failure::of_request(error).into(),
        }
    }

    /// Whether another attempt may help.
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

    /// The same fault after its pause.
    pub(super) fn waited_for(self) -> Self {
        match self {
            Self::Failure { failure, .. } => failure.into(),
            error @ Self::Error(_) => error,
        }
    }

    /// The text for the log.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::Error(error) => error.to_string(),
            Self::Failure { failure, .. } => failure.cause(),
        }
    }

    /// The error of a fetch whose last attempt ended with this fault. `endpoint` is scheme, host and port.
    pub(super) fn into_error(self, endpoint: String, attempts: u32, took: Duration) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Failure { failure, retry_after } => {
                Error::Endpoint(EndpointError { endpoint, failure, retry_after, attempts, took })
            }
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Failure { failure, retry_after: None }
    }
}
