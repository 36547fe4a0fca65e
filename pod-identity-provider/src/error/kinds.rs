//! Errors that involve neither an endpoint nor STS.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;

use super::text::chain;

/// No method is configured: environment variables are missing.
#[derive(Debug, Clone)]
pub struct NotConfigured {
    pub(super) missing: String,
}

impl NotConfigured {
    /// Returns the missing variables of each method.
    pub fn missing(&self) -> &str {
        &self.missing
    }

    pub(super) fn cause(&self) -> String {
        format!(
            "no source of AWS credentials is configured for this pod. Missing variables: {}",
            self.missing
        )
    }

    pub(super) fn hint(&self) -> &'static str {
        "Create an association or a role annotation for the service account, check that the webhook runs, and create the \
         pod again. On your own machine start the program with `pod-identity-local run -- PROGRAM`. The node's role is not \
         used"
    }
}

/// An environment variable, the file that it names, or the program's own configuration is invalid. The error contains no
/// secrets.
#[derive(Debug, Clone)]
pub struct InvalidConfiguration {
    pub(super) variable: Option<&'static str>,
    pub(super) cause: String,
    pub(super) hint: &'static str,
}

impl InvalidConfiguration {
    /// Returns the invalid or missing variable. Returns `None` if the program's own configuration is invalid.
    pub fn variable(&self) -> Option<&'static str> {
        self.variable
    }

    pub(super) fn hint(&self) -> &'static str {
        self.hint
    }
}

/// The token file could not be read, and a later attempt may succeed.
#[derive(Debug, Clone)]
pub struct TokenUnreadable {
    pub(crate) variable: &'static str,
    pub(crate) reason: String,
}

impl TokenUnreadable {
    /// Returns the variable that names the file.
    pub fn variable(&self) -> &'static str {
        self.variable
    }

    pub(super) fn cause(&self) -> String {
        format!("{} {}", self.variable, self.reason)
    }

    pub(super) fn hint(&self) -> &'static str {
        "Check this process's limit of open files and this node's disk"
    }
}

/// The provider of [`or_else`](crate::PodIdentityCredentialsProviderBuilder::or_else) failed or exceeded the deadline, or a
/// source of credentials panicked.
#[derive(Debug, Clone)]
pub struct SourceError {
    pub(super) failure: SourceFailure,
}

#[derive(Debug, Clone)]
pub(super) enum SourceFailure {
    /// Shared by all requests that waited for the call.
    Failed(Arc<CredentialsError>),
    TimedOut(Duration),
    Panicked,
}

impl SourceError {
    /// Returns the error of the provider. Returns `None` if it exceeded the deadline or panicked.
    pub fn credentials_error(&self) -> Option<&CredentialsError> {
        match &self.failure {
            SourceFailure::Failed(error) => Some(error),
            SourceFailure::TimedOut(_) | SourceFailure::Panicked => None,
        }
    }

    pub(super) fn is_retryable(&self) -> bool {
        matches!(self.failure, SourceFailure::TimedOut(_))
    }

    pub(super) fn cause(&self) -> String {
        match &self.failure {
            SourceFailure::Failed(error) => chain(&**error),
            SourceFailure::TimedOut(limit) => {
                format!("the provider of `or_else` returned nothing within {} s", limit.as_secs_f64())
            }
            SourceFailure::Panicked => "the source of the credentials panicked".to_owned(),
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        match &self.failure {
            SourceFailure::Failed(_) => None,
            SourceFailure::TimedOut(_) => {
                Some("Check why the provider hangs, or raise the builder's `deadline`")
            }
            SourceFailure::Panicked => Some("Find the panic message on this program's standard error"),
        }
    }
}

/// The fetched credentials had expired, or expire within seconds while the cached ones expire later.
#[derive(Debug, Clone)]
pub struct ExpiredCredentials {
    pub(crate) expired_at: SystemTime,
    pub(crate) now: SystemTime,
}

impl ExpiredCredentials {
    /// Returns the expiry of the credentials.
    pub fn expired_at(&self) -> SystemTime {
        self.expired_at
    }

    pub(super) fn cause(&self) -> String {
        match self.expired_at.duration_since(self.now) {
            Ok(left) => format!("the credentials expire {} s after their arrival", left.as_secs()),
            Err(since) => {
                format!("the credentials had expired {} s before their arrival", since.duration().as_secs())
            }
        }
    }

    pub(super) fn hint(&self) -> &'static str {
        "Compare this machine's clock with AWS's"
    }
}

/// A tokio runtime is missing, or the runtime of the fetch ended.
#[derive(Debug, Clone)]
pub struct RuntimeError {
    /// Whether a fetch was dropped. Otherwise a runtime is missing.
    pub(super) dropped: bool,
}

impl RuntimeError {
    pub(super) fn is_retryable(&self) -> bool {
        self.dropped
    }

    pub(super) fn cause(&self) -> String {
        let cause = match self.dropped {
            true => "the tokio runtime that fetched the credentials ended, or was not polled",
            false => {
                "there is no tokio runtime, which the default HTTP client, timers and name resolver need"
            }
        };
        cause.to_owned()
    }

    pub(super) fn hint(&self) -> &'static str {
        match self.dropped {
            true => {
                "Request the credentials again, on a runtime that runs for as long as the provider is used"
            }
            false => {
                "Request the credentials inside a tokio runtime, or give the builder parts that need none: `http_client`, \
                 `sleep_impl` and, for a URI with a name, `dns`"
            }
        }
    }
}
