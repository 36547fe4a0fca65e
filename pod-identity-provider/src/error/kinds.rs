//! The errors of this crate that concern neither an endpoint nor STS.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;

use super::text::chain;

/// The environment names no source of credentials.
#[derive(Debug, Clone)]
pub struct NotConfigured {
    pub(super) missing: String,
}

impl NotConfigured {
    /// Returns the variables that are not set, for each method.
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
        "Give the service account an association or a role annotation, see that the webhook runs, and create the pod \
         again. On your own machine start the program with `pod-identity-local run -- PROGRAM`. The node's role is not \
         used"
    }
}

/// A variable of the pod's spec, the file that it names, or the program's own set-up is wrong. No secret is in it.
#[derive(Debug, Clone)]
pub struct InvalidConfiguration {
    pub(super) variable: Option<&'static str>,
    pub(super) cause: String,
    pub(super) hint: &'static str,
}

impl InvalidConfiguration {
    /// Returns the variable that is wrong or missing. `None` where the program's own set-up is wrong.
    pub fn variable(&self) -> Option<&'static str> {
        self.variable
    }

    pub(super) fn hint(&self) -> &'static str {
        self.hint
    }
}

/// The token file could not be read, for a reason that may pass.
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

/// The provider that was given to [`or_else`](crate::PodIdentityCredentialsProviderBuilder::or_else) failed or took
/// too long, or a source of credentials panicked.
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
    /// Returns the error that the provider returned. `None` where it took too long or panicked.
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
                format!("the provider given to `or_else` returned nothing within {} s", limit.as_secs_f64())
            }
            SourceFailure::Panicked => "the source of the credentials panicked".to_owned(),
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        match &self.failure {
            SourceFailure::Failed(_) => None,
            SourceFailure::TimedOut(_) => Some("Find out why it hangs, or raise the builder's `deadline`"),
            SourceFailure::Panicked => Some("See this program's standard error for the panic and its place"),
        }
    }
}

/// The credentials had expired on arrival, or were about to while the cached ones last longer.
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

/// The request needs a tokio runtime and there is none, or the runtime of the fetch has ended.
#[derive(Debug, Clone)]
pub struct RuntimeError {
    /// Whether a fetch was dropped; else there is no runtime.
    pub(super) dropped: bool,
}

impl RuntimeError {
    pub(super) fn is_retryable(&self) -> bool {
        self.dropped
    }

    pub(super) fn cause(&self) -> String {
        let cause = match self.dropped {
            true => "the tokio runtime that fetched the credentials ended, or was not driven",
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
