//! The errors of the provider, each with its cause and its fix.

mod endpoint;
mod failure;
mod hints;
mod kinds;
#[cfg(feature = "irsa")]
mod sts;
#[cfg(test)]
mod tests;
mod text;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;

pub use endpoint::EndpointError;
pub(crate) use failure::{EndpointRefusal, Failure};
use kinds::SourceFailure;
pub use kinds::{
    ExpiredCredentials, InvalidConfiguration, NotConfigured, RuntimeError, SourceError, TokenUnreadable,
};
#[cfg(feature = "irsa")]
pub use sts::StsError;
#[cfg(feature = "irsa")]
pub(crate) use sts::StsFailure;
#[cfg(feature = "irsa")]
pub(crate) use text::chain;
pub(crate) use text::one_line;

/// A request for credentials failed. The error has a cause and a fix.
///
/// `{}` and `{:?}` print the same line: the cause, then the fix. A `main` that returns `Result<(), Box<dyn Error>>` therefore
/// prints both, and so does the `{:?}` of an SDK's error. [`Error::of`] finds this error inside an SDK's error.
///
/// ```
/// use pod_identity_provider::{Environment, Error, PodIdentityCredentialsProvider};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let environment = Environment::from_iter([
///     ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
///     ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/no/such/file"),
/// ]);
/// let provider = PodIdentityCredentialsProvider::builder().environment(environment).build();
/// let error = provider.credentials().await.unwrap_err();
/// assert!(matches!(error, Error::InvalidConfiguration(_)));
/// assert!(error.to_string().starts_with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names \"/no/such/file\""));
/// assert_eq!(format!("{error:?}"), error.to_string());
/// # }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// No method is configured: environment variables are missing.
    NotConfigured(NotConfigured),
    /// An environment variable, the file that it names, or the program's own configuration is invalid.
    InvalidConfiguration(InvalidConfiguration),
    /// The token file could not be read, and a later attempt may succeed.
    TokenUnreadable(TokenUnreadable),
    /// The credentials endpoint could not be called, or returned no credentials.
    Endpoint(EndpointError),
    /// STS could not be called, or returned no credentials. Only with the feature `irsa`.
    #[cfg(feature = "irsa")]
    Sts(StsError),
    /// The provider of [`or_else`](crate::PodIdentityCredentialsProviderBuilder::or_else) failed or exceeded the deadline, or
    /// a source of credentials panicked.
    Source(SourceError),
    /// The fetched credentials had expired, or expire within seconds while the cached ones expire later.
    Expired(ExpiredCredentials),
    /// A tokio runtime is missing, or the runtime of the fetch ended.
    Runtime(RuntimeError),
}

impl Error {
    /// Returns this crate's error inside an SDK's error, at any depth.
    ///
    /// ```
    /// # fn explain(error: impl std::error::Error + 'static) -> String {
    /// // `error` is what a client's `send()` returned.
    /// match pod_identity_provider::Error::of(&error) {
    ///     Some(credentials) => credentials.to_string(),
    ///     None => aws_smithy_types::error::display::DisplayErrorContext(error).to_string(),
    /// }
    /// # }
    /// ```
    pub fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
    }

    /// Returns the error code of an endpoint or of STS. It is a code of this project (`docs/reference/errors.md`) or of AWS. Returns
    /// `None` if the error has no code.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Endpoint(error) => error.code(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.code(),
            Self::Source(error) => inner(error)?.code(),
            _ => None,
        }
    }

    /// Returns the fix, if it is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotConfigured(error) => Some(error.hint()),
            Self::InvalidConfiguration(error) => Some(error.hint()),
            Self::TokenUnreadable(error) => Some(error.hint()),
            Self::Endpoint(error) => error.hint(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.hint(),
            Self::Source(error) => match inner(error) {
                Some(inner) => inner.hint(),
                None => error.hint(),
            },
            Self::Expired(error) => Some(error.hint()),
            Self::Runtime(error) => Some(error.hint()),
        }
    }

    /// Returns the pause that the endpoint asks for (`Retry-After`, RFC 9110, section 10.2.3), at most 30 s. The provider
    /// makes no call during the pause.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Endpoint(error) => error.retry_after(),
            Self::Source(error) => inner(error)?.retry_after(),
            _ => None,
        }
    }

    /// Returns whether the same request may succeed later without a change of the configuration.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Endpoint(error) => error.is_retryable(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.is_retryable(),
            Self::TokenUnreadable(_) => true,
            Self::Source(error) => match inner(error) {
                Some(inner) => inner.is_retryable(),
                None => error.is_retryable(),
            },
            Self::Runtime(error) => error.is_retryable(),
            Self::NotConfigured(_) | Self::InvalidConfiguration(_) | Self::Expired(_) => false,
        }
    }

    pub(crate) fn not_configured(missing: String) -> Self {
        Self::NotConfigured(NotConfigured { missing })
    }

    /// Returns the error of an invalid variable. The cause is `variable` followed by `reason`.
    pub(crate) fn unusable(variable: &'static str, reason: &str, hint: &'static str) -> Self {
        let cause = format!("{variable} {reason}");
        Self::InvalidConfiguration(InvalidConfiguration { variable: Some(variable), cause, hint })
    }

    pub(crate) fn no_method() -> Self {
        Self::InvalidConfiguration(InvalidConfiguration {
            variable: None,
            cause: "the provider's builder was given an empty list of `methods`".to_owned(),
            hint: "Name `Method::PodIdentity`, `Method::WebIdentity` or both",
        })
    }

    #[cfg(not(all(feature = "https", feature = "irsa")))]
    pub(crate) fn feature_missing(feature: &str) -> Self {
        Self::InvalidConfiguration(InvalidConfiguration {
            variable: None,
            cause: format!(
                "this needs the feature `{feature}` of pod-identity-provider, and the program is built without it"
            ),
            hint: "Add the feature to the dependency in Cargo.toml",
        })
    }

    /// Returns the error of a call that exceeded `limit`.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self::Source(SourceError { failure: SourceFailure::TimedOut(limit) })
    }

    pub(crate) fn panicked() -> Self {
        Self::Source(SourceError { failure: SourceFailure::Panicked })
    }

    pub(crate) fn no_runtime() -> Self {
        Self::Runtime(RuntimeError { dropped: false })
    }

    /// Returns the error of a fetch that was dropped with its runtime.
    pub(crate) fn dropped() -> Self {
        Self::Runtime(RuntimeError { dropped: true })
    }

    /// Converts the error of a credential source. Unwraps an error of this crate, unless another provider has changed its
    /// kind.
    pub(crate) fn of_source(error: CredentialsError) -> Self {
        let inner = error.source().and_then(|source| source.downcast_ref::<Self>());
        let same_kind = |inner: &&Self| kind(&CredentialsError::from((*inner).clone())) == kind(&error);
        match inner.filter(same_kind) {
            Some(inner) => inner.clone(),
            None => Self::Source(SourceError { failure: SourceFailure::Failed(Arc::new(error)) }),
        }
    }

    fn cause(&self) -> String {
        match self {
            Self::NotConfigured(error) => error.cause(),
            Self::InvalidConfiguration(error) => error.cause.clone(),
            Self::TokenUnreadable(error) => error.cause(),
            Self::Endpoint(error) => error.cause(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.cause(),
            Self::Source(error) => match inner(error) {
                Some(inner) => inner.cause(),
                None => error.cause(),
            },
            Self::Expired(error) => error.cause(),
            Self::Runtime(error) => error.cause(),
        }
    }
}

/// Returns this crate's error inside the error of the `or_else` provider.
fn inner(error: &SourceError) -> Option<&Error> {
    Error::of(error.credentials_error()?)
}

fn kind(error: &CredentialsError) -> std::mem::Discriminant<CredentialsError> {
    std::mem::discriminant(error)
}

/// Prints the cause, then the hint. Omits the hint if the cause contains it, as messages of this project's agent do.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause();
        match self.hint() {
            Some(hint) if !cause.contains(hint) => {
                write!(f, "{}. {hint}", cause.trim_end_matches('.'))
            }
            _ => f.write_str(&cause),
        }
    }
}

/// Prints the same line as `Display`, because `{:?}` of an SDK's error prints this text.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {}

/// Maps each error to a kind. A chain of the SDK continues with its next provider only after `CredentialsNotLoaded`.
impl From<Error> for CredentialsError {
    fn from(error: Error) -> Self {
        match &error {
            Error::NotConfigured(_) => Self::not_loaded(error),
            Error::InvalidConfiguration(_) => Self::invalid_configuration(error),
            #[cfg(feature = "irsa")]
            Error::Sts(sts) if sts.is_configuration_error() => Self::invalid_configuration(error),
            Error::Source(source) => match source.credentials_error() {
                Some(CredentialsError::CredentialsNotLoaded(_)) => Self::not_loaded(error),
                Some(CredentialsError::InvalidConfiguration(_)) => Self::invalid_configuration(error),
                Some(CredentialsError::ProviderTimedOut(limit)) => {
                    Self::provider_timed_out(limit.timeout_duration())
                }
                Some(CredentialsError::Unhandled(_)) => Self::unhandled(error),
                _ => Self::provider_error(error),
            },
            _ => Self::provider_error(error),
        }
    }
}
