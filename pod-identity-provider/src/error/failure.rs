//! The result of one attempt that brought no credentials.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use aws_smithy_runtime_api::client::dns::ResolveDnsError;
use pod_identity_core::error::ErrorCode;

use super::text::{chain, sources};

/// The reason why one attempt brought no credentials. Its texts hold no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The host's name could not be resolved.
    Unresolved { reason: String },
    /// Nothing listens at the address.
    Refused,
    /// There is no route to the address.
    NoRoute { reason: String },
    /// The connection was not accepted in time.
    NotConnected { limit: Duration },
    /// The response was not complete in time.
    TimedOut { limit: Duration },
    /// The TLS handshake failed.
    Insecure { reason: String },
    /// The connection ended early, or could not be used.
    Broken { reason: String },
    /// The endpoint refused.
    Answer(Refusal),
    /// The response has status 200 and holds no credentials.
    Malformed { reason: String },
}

/// A response that refuses credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    /// Whether the body is HTML or XML.
    pub(crate) page: bool,
    /// Whether the request had no token, because no variable names one.
    pub(crate) without_token: bool,
}

impl Failure {
    /// Whether another attempt may help: after faults of the connection, and after 408, 429 and 5xx unless the code of
    /// this project's agent says otherwise. Other refusals and responses without credentials are final.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Unresolved { .. }
            | Self::Refused
            | Self::NoRoute { .. }
            | Self::NotConnected { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. } => true,
            Self::Answer(Refusal { status, code, .. }) => {
                let own: Option<ErrorCode> = code.as_deref().and_then(|code| code.parse().ok());
                matches!(status, 408 | 429 | 500..=599) && own.is_none_or(ErrorCode::is_retryable)
            }
            // The certificate and the body stay the same.
            Self::Insecure { .. } | Self::Malformed { .. } => false,
        }
    }

    /// Whether the address was not reached, so that the next address of the name is worth a try.
    pub(crate) fn is_of_address(&self) -> bool {
        matches!(self, Self::Refused | Self::NoRoute { .. } | Self::NotConnected { .. })
    }

    /// Classifies an error before the response.
    pub(crate) fn of_request(error: &(dyn StdError + 'static)) -> Self {
        if let Some(unresolved) = sources(error).find(|error| error.is::<ResolveDnsError>()) {
            return Self::Unresolved { reason: chain(unresolved) };
        }
        match io_kind(error) {
            // rustls reports a bad certificate or handshake so (tokio-rustls, `Stream::read_io`).
            Some(io::ErrorKind::InvalidData) => Self::Insecure { reason: chain(error) },
            _ => Self::of_connection(error),
        }
    }

    /// Classifies an error of a connection.
    pub(crate) fn of_connection(error: &(dyn StdError + 'static)) -> Self {
        let reason = chain(error);
        match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            Some(
                // A local firewall rule causes the last one (`connect(2)`, EPERM and EACCES).
                io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::PermissionDenied,
            ) => Self::NoRoute { reason },
            _ => Self::Broken { reason },
        }
    }

    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Unresolved { reason } => format!("its name was not resolved: {reason}"),
            Self::Refused => "nothing listens there (connection refused)".to_owned(),
            Self::NoRoute { reason } => format!("it cannot be reached: {reason}"),
            Self::NotConnected { limit } => {
                format!("the connection was not accepted within {} s", seconds(*limit))
            }
            Self::TimedOut { limit } => format!("no complete response within {} s", seconds(*limit)),
            Self::Insecure { reason } => format!("TLS failed: {reason}"),
            Self::Broken { reason } => format!("the connection failed: {reason}"),
            Self::Answer(Refusal { status, code, message, .. }) => {
                let code = code.as_deref().filter(|code| !message.contains(code));
                let parts = [Some(format!("status {status}")), code.map(str::to_owned)];
                let message = Some(message.clone()).filter(|message| !message.is_empty());
                parts.into_iter().chain([message]).flatten().collect::<Vec<_>>().join(": ")
            }
            Self::Malformed { reason } => format!("its response holds no credentials: {reason}"),
        }
    }
}

/// Seconds, to the hundredth.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    // The innermost one: the system's, or rustls's inside one of hyper-rustls.
    sources(error).filter_map(|error| error.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}
