//! The reasons why there are no credentials.

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
pub(crate) use failure::{Failure, Refusal};
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

/// The reason why there are no credentials, with its cause and its fix.
///
/// `{}` and `{:?}` print the same line: the cause, then what to do. So the line is also in what
/// `fn main() -> Result<(), Box<dyn Error>>` prints, and in the `{:?}` of an SDK's error. [`Error::of`] finds the
/// error inside one of an SDK.
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
    /// The environment names no source of credentials.
    NotConfigured(NotConfigured),
    /// A variable of the pod's spec, the file that it names, or the program's own set-up is wrong.
    InvalidConfiguration(InvalidConfiguration),
    /// The token file could not be read, for a reason that may pass.
    TokenUnreadable(TokenUnreadable),
    /// The endpoint that the environment names could not be called, or returned no credentials.
    Endpoint(EndpointError),
    /// STS could not be called, or returned no session. Only with the feature `irsa`.
    #[cfg(feature = "irsa")]
    Sts(StsError),
    /// The provider that was given to
    /// [`or_else`](crate::PodIdentityCredentialsProviderBuilder::or_else) failed or took too long, or a source of
    /// credentials panicked.
    Source(SourceError),
    /// The credentials had expired on arrival, or were about to while the cached ones last longer.
    Expired(ExpiredCredentials),
    /// The request needs a tokio runtime and there is none, or the runtime of the fetch has ended.
    Runtime(RuntimeError),
}

impl Error {
    /// Finds the error of this crate in an error of an SDK, at any depth.
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

    /// Returns the code of the refusal: one of this project's (`docs/reference/errors.md`), or one of AWS's. `None` unless an
    /// endpoint or STS refused with a code.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Endpoint(error) => error.code(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.code(),
            Self::Source(error) => own(error)?.code(),
            _ => None,
        }
    }

    /// Returns what to do, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotConfigured(error) => Some(error.hint()),
            Self::InvalidConfiguration(error) => Some(error.hint()),
            Self::TokenUnreadable(error) => Some(error.hint()),
            Self::Endpoint(error) => error.hint(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.hint(),
            Self::Source(error) => match own(error) {
                Some(own) => own.hint(),
                None => error.hint(),
            },
            Self::Expired(error) => Some(error.hint()),
            Self::Runtime(error) => Some(error.hint()),
        }
    }

    /// Returns the pause before the next call, where the endpoint asks for one (`Retry-After`, RFC 9110, section
    /// 10.2.3). It is at most 30 s. The provider keeps to it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Endpoint(error) => error.retry_after(),
            Self::Source(error) => own(error)?.retry_after(),
            _ => None,
        }
    }

    /// Returns whether the same request may succeed later without anybody acting.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Endpoint(error) => error.is_retryable(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.is_retryable(),
            Self::TokenUnreadable(_) => true,
            Self::Source(error) => match own(error) {
                Some(own) => own.is_retryable(),
                None => error.is_retryable(),
            },
            Self::Runtime(error) => error.is_retryable(),
            Self::NotConfigured(_) | Self::InvalidConfiguration(_) | Self::Expired(_) => false,
        }
    }

    pub(crate) fn not_configured(missing: String) -> Self {
        Self::NotConfigured(NotConfigured { missing })
    }

    /// A variable that cannot be used. `reason` continues a sentence that begins with the variable's name.
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

    /// A call of a provider that took longer than `limit`.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self::Source(SourceError { failure: SourceFailure::TimedOut(limit) })
    }

    pub(crate) fn panicked() -> Self {
        Self::Source(SourceError { failure: SourceFailure::Panicked })
    }

    pub(crate) fn no_runtime() -> Self {
        Self::Runtime(RuntimeError { dropped: false })
    }

    /// A fetch that ended with its runtime.
    pub(crate) fn dropped() -> Self {
        Self::Runtime(RuntimeError { dropped: true })
    }

    /// The error of a source of credentials. An error of this crate stays what it is; one of another provider keeps
    /// its kind.
    pub(crate) fn of_source(error: CredentialsError) -> Self {
        let own = error.source().and_then(|source| source.downcast_ref::<Self>());
        let same_kind = |own: &&Self| kind(&CredentialsError::from((*own).clone())) == kind(&error);
        match own.filter(same_kind) {
            Some(own) => own.clone(),
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
            Self::Source(error) => match own(error) {
                Some(own) => own.cause(),
                None => error.cause(),
            },
            Self::Expired(error) => error.cause(),
            Self::Runtime(error) => error.cause(),
        }
    }
}

/// The error of this crate that a provider given to `or_else` returned, as another of this crate's providers does.
fn own(error: &SourceError) -> Option<&Error> {
    Error::of(error.credentials_error()?)
}

fn kind(error: &CredentialsError) -> std::mem::Discriminant<CredentialsError> {
    std::mem::discriminant(error)
}

/// The cause, then the hint. A message of this project's agent holds its hint already.
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

/// The same line as `Display`: programs that print an SDK's error with `{:?}` print this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {}

/// The kind decides whether a chain of the SDK goes on: it does so after `CredentialsNotLoaded` only.
impl From<Error> for CredentialsError {
    fn from(error: Error) -> Self {
        match &error {
            Error::NotConfigured(_) => Self::not_loaded(error),
            Error::InvalidConfiguration(_) => Self::invalid_configuration(error),
            #[cfg(feature = "irsa")]
            Error::Sts(sts) if sts.is_of_configuration() => Self::invalid_configuration(error),
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
