//! Why there are no credentials.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;

/// Why there are no credentials: what is wrong, and what to do about it.
///
/// The SDK's [`CredentialsError`] says only of what kind an error is; this is its source, and
/// [`Error::of`] finds it there.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing in the environment says where credentials are.
    #[error(
        "this pod was not told where its credentials are: {missing} not set. Was it created before its association or \
         its service account's annotation, or while no webhook ran? Create it anew. The node's role is not used"
    )]
    NotConfigured {
        /// The environment variables that are missing, for each method.
        missing: String,
    },
    /// The way that the environment is set up for needs a feature of this crate that the program was built without.
    #[error("build this program with the feature `{0}` of pod-identity-provider")]
    FeatureMissing(&'static str),
    /// A provider that was given for want of others took too long.
    #[error("no credentials within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The credentials had ended when they came.
    #[error("the credentials that came had ended {} s before: compare this machine's clock with AWS's", .now.duration_since(*.expired_at).unwrap_or_default().as_secs())]
    Ended {
        /// Their end.
        expired_at: SystemTime,
        /// The time here.
        now: SystemTime,
    },
    /// The fetches that the request waited for were dropped, as when a runtime ends.
    #[error("the fetch of the credentials was given up: the runtime that it ran on has ended. Ask again")]
    GivenUp,
}

impl Error {
    /// The error of this crate behind one of the SDK, however deep.
    pub fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl From<Error> for CredentialsError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotConfigured { .. } => Self::not_loaded(error),
            Error::FeatureMissing(_) => Self::invalid_configuration(error),
            _ => Self::provider_error(error),
        }
    }
}

/// One error for each of many who waited for it: of the same kind, with the same source.
pub(crate) fn shared(error: &Arc<CredentialsError>) -> CredentialsError {
    let copy = Shared(error.clone());
    match **error {
        CredentialsError::CredentialsNotLoaded(_) => CredentialsError::not_loaded(copy),
        CredentialsError::InvalidConfiguration(_) => CredentialsError::invalid_configuration(copy),
        CredentialsError::Unhandled(_) => CredentialsError::unhandled(copy),
        CredentialsError::ProviderTimedOut(ref timed_out) => {
            CredentialsError::provider_timed_out(timed_out.timeout_duration())
        }
        _ => CredentialsError::provider_error(copy),
    }
}

/// Stands for the source of an error that others were given too.
#[derive(Debug)]
struct Shared(Arc<CredentialsError>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fetch that all who asked waited for failed")
    }
}

impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}
