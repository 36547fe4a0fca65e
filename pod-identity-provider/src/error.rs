//! Why there are no credentials.

mod endpoint;
mod hints;
#[cfg(feature = "irsa")]
mod sts;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::error::CredentialsError;

pub use endpoint::EndpointError;
pub(crate) use endpoint::Failure;
#[cfg(feature = "irsa")]
pub use sts::StsError;
#[cfg(feature = "irsa")]
pub(crate) use sts::StsFailure;

/// Why there are no credentials: what is wrong, and what to do about it.
///
/// The SDK's [`CredentialsError`] says only of what kind an error is; this is its source, and
/// [`Error::of`] finds it there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// Nothing in the environment says where credentials are.
    NotConfigured {
        /// The environment variables that are missing, for each method.
        missing: String,
    },
    /// The builder was given no method that the environment could be set up for.
    NoMethod,
    /// The way that the environment is set up for needs a feature of this crate that the program was built without.
    FeatureMissing(&'static str),
    /// A variable of the pod's spec, or the file that it names, cannot be used. No secret is in it.
    Unusable {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The file with the token could not be read, for a reason that may pass.
    Unreadable {
        /// The variable that names it.
        variable: &'static str,
        /// What the system said.
        reason: String,
    },
    /// The endpoint that the environment names could not be asked, or gave no credentials.
    Endpoint(EndpointError),
    /// STS could not be asked, or gave no session. Of the feature `irsa`.
    #[cfg(feature = "irsa")]
    Sts(StsError),
    /// A provider that was given for want of others took too long.
    TimedOut(Duration),
    /// The credentials had ended when they came, or were about to while others last longer.
    Ended {
        /// Their end.
        expired_at: SystemTime,
        /// The time here.
        now: SystemTime,
    },
    /// The request was made outside a tokio runtime, which tokio's timers, the SDK's own HTTP client and the system's
    /// resolver need.
    NoRuntime,
    /// The provider that was asked has panicked.
    Panicked,
    /// The fetches that the request waited for were dropped: the runtime that they ran on has ended, or nobody drove it.
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

    /// The code that the endpoint or STS gave with its refusal: one of this project's (`docs/errors.md`), or of AWS's.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Endpoint(error) => error.code(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.code(),
            _ => None,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotConfigured { .. } => Some(
                "Was it created before its association or its service account's annotation, or while no webhook ran? \
                 Create it anew. The node's role is not used",
            ),
            Self::NoMethod => Some("Name `Method::PodIdentity`, `Method::WebIdentity` or both"),
            Self::FeatureMissing(_) => Some("Build the program with it"),
            Self::Unusable { hint, .. } => Some(hint),
            Self::Unreadable { .. } => {
                Some("Has this process too many files open, or this node a disk that fails?")
            }
            Self::Endpoint(error) => error.hint(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.hint(),
            Self::Ended { .. } => Some("Compare this machine's clock with AWS's"),
            Self::NoRuntime => Some(
                "Ask from within a tokio runtime, or give the builder what needs none: http_client, sleep_impl and, for a URI \
                 with a name in it, dns",
            ),
            Self::Panicked => Some("This program's standard error says where"),
            Self::GivenUp => Some("Ask again, on a runtime that runs for as long as the provider is asked"),
            Self::TimedOut(_) => None,
        }
    }

    /// How long nobody is to ask again, where the endpoint says (`Retry-After`, RFC 9110, section 10.2.3): 30 s at most.
    /// The provider keeps to it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Endpoint(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Whether asking again may help without anybody acting.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Endpoint(error) => error.is_retryable(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.is_retryable(),
            Self::Unreadable { .. } | Self::TimedOut(_) | Self::GivenUp => true,
            _ => false,
        }
    }

    fn cause(&self) -> String {
        match self {
            Self::NotConfigured { missing } => {
                format!("this pod was not told where its credentials are: {missing} not set")
            }
            Self::NoMethod => "the list of `methods` that the provider's builder was given has none".to_owned(),
            Self::FeatureMissing(name) => {
                format!("this needs the feature `{name}` of pod-identity-provider, which is not built in")
            }
            Self::Unusable { variable, reason, .. } | Self::Unreadable { variable, reason } => {
                format!("{variable} {reason}")
            }
            Self::Endpoint(error) => error.cause(),
            #[cfg(feature = "irsa")]
            Self::Sts(error) => error.cause(),
            Self::TimedOut(limit) => format!("no credentials within {} s", limit.as_secs_f64()),
            Self::Ended { expired_at, now } => match expired_at.duration_since(*now) {
                Ok(left) => format!("the credentials that came end in {} s", left.as_secs()),
                Err(since) => {
                    format!("the credentials that came had ended {} s before", since.duration().as_secs())
                }
            },
            Self::NoRuntime => "there is no tokio runtime here".to_owned(),
            Self::Panicked => "the provider of the credentials panicked".to_owned(),
            Self::GivenUp => {
                "the fetch of the credentials was given up: the runtime that it ran on has ended, or nobody drove it"
                    .to_owned()
            }
        }
    }
}

/// The cause, then the hint. The messages of this project's agent hold theirs already.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = self.cause();
        match self.hint() {
            Some(hint) if !cause.contains(hint) => write!(f, "{}. {hint}", cause.trim_end_matches('.')),
            _ => f.write_str(&cause),
        }
    }
}

impl StdError for Error {}

impl From<Error> for CredentialsError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotConfigured { .. } => Self::not_loaded(error),
            Error::NoMethod | Error::FeatureMissing(_) | Error::Unusable { .. } => {
                Self::invalid_configuration(error)
            }
            #[cfg(feature = "irsa")]
            Error::Sts(ref sts) if sts.is_of_configuration() => Self::invalid_configuration(error),
            _ => Self::provider_error(error),
        }
    }
}

/// Somebody else's text, fit for a log and an error: in one line, and not too long.
pub(crate) fn one_line(text: &str) -> String {
    /// As much as is kept.
    const LONGEST: usize = 1024;
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST));
        line += "...";
    }
    line.trim().to_owned()
}

/// What an error says: this crate's own, or else the errors that led to it, one after the other.
pub(crate) fn said(error: &CredentialsError) -> String {
    Error::of(error).map_or_else(|| Failure::chain(error), Error::to_string)
}

/// One error for each of many who waited for it: of the same kind, with the same source.
pub(crate) fn shared(error: &Arc<CredentialsError>) -> CredentialsError {
    let known = error.source().and_then(|source| source.downcast_ref::<Error>());
    let copy: Box<dyn StdError + Send + Sync> = match known {
        Some(known) => Box::new(known.clone()),
        None => Box::new(Shared(error.clone())),
    };
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

/// Stands for the source of another provider's error, which others were given too.
#[derive(Debug)]
struct Shared(Arc<CredentialsError>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the provider failed")
    }
}

impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}
