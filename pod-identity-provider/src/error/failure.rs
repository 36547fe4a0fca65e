//! The cause of a failed attempt.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use aws_smithy_runtime_api::client::dns::ResolveDnsError;
use pod_identity_core::error::ErrorCode;

use super::text::{chain, sources};

/// The cause of a failed attempt. The texts contain no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The host's name could not be resolved.
    Dns { reason: String },
    /// No program listens at the address.
    ConnectionRefused,
    /// There is no route to the address.
    NoRoute { reason: String },
    /// The connection was not established in time.
    ConnectTimeout { limit: Duration },
    /// The response was not complete in time.
    ResponseTimeout { limit: Duration },
    /// The TLS handshake failed.
    Tls { reason: String },
    /// The connection ended early, or could not be used.
    Connection { reason: String },
    /// The endpoint refused.
    Refusal(EndpointRefusal),
    /// The response has status 200 but no valid credentials.
    Malformed { reason: String },
}

/// A response that refuses credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointRefusal {
    pub(crate) status: u16,
    pub(crate) code: Option<String>,
    pub(crate) message: String,
    /// Whether the body looks like HTML or XML.
    pub(crate) is_markup: bool,
    /// Whether the request had no token.
    pub(crate) without_token: bool,
}

impl Failure {
    /// Returns whether to try again: after connection errors, and after status 408, 429 and 5xx. A code of this project in
    /// the response can make such a status final. Other responses are final.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Dns { .. }
            | Self::ConnectionRefused
            | Self::NoRoute { .. }
            | Self::ConnectTimeout { .. }
            | Self::ResponseTimeout { .. }
            | Self::Connection { .. } => true,
            Self::Refusal(EndpointRefusal { status, code, .. }) => {
                let code: Option<ErrorCode> = code.as_deref().and_then(|code| code.parse().ok());
                matches!(status, 408 | 429 | 500..=599) && code.is_none_or(ErrorCode::is_retryable)
            }
            // A retry would get the same certificate or body.
            Self::Tls { .. } | Self::Malformed { .. } => false,
        }
    }

    /// Returns whether there was no connection, so that the next address of the name should be tried.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::ConnectionRefused | Self::NoRoute { .. } | Self::ConnectTimeout { .. })
    }

    /// Classifies an error that occurred before the response.
    pub(crate) fn of_request(error: &(dyn StdError + 'static)) -> Self {
        if let Some(unresolved) = sources(error).find(|error| error.is::<ResolveDnsError>()) {
            return Self::Dns { reason: chain(unresolved) };
        }
        match io_kind(error) {
            // The error kind of rustls for a bad certificate or handshake (tokio-rustls, `Stream::read_io`).
            Some(io::ErrorKind::InvalidData) => Self::Tls { reason: chain(error) },
            _ => Self::of_connection(error),
        }
    }

    /// Classifies a connection error.
    pub(crate) fn of_connection(error: &(dyn StdError + 'static)) -> Self {
        let reason = chain(error);
        match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => Self::ConnectionRefused,
            Some(
                io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable
                // A local firewall rule (`connect(2)`, EPERM and EACCES).
                | io::ErrorKind::PermissionDenied,
            ) => Self::NoRoute { reason },
            _ => Self::Connection { reason },
        }
    }

    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Dns { reason } => format!("its name was not resolved: {reason}"),
            Self::ConnectionRefused => "nothing listens there (connection refused)".to_owned(),
            Self::NoRoute { reason } => format!("it cannot be reached: {reason}"),
            Self::ConnectTimeout { limit } => {
                format!("no connection within {} s", seconds(*limit))
            }
            Self::ResponseTimeout { limit } => format!("no complete response within {} s", seconds(*limit)),
            Self::Tls { reason } => format!("TLS failed: {reason}"),
            Self::Connection { reason } => format!("the connection failed: {reason}"),
            Self::Refusal(EndpointRefusal { status, code, message, .. }) => {
                let code = code.as_deref().filter(|code| !message.contains(code));
                let parts = [Some(format!("status {status}")), code.map(str::to_owned)];
                let message = Some(message.clone()).filter(|message| !message.is_empty());
                parts.into_iter().chain([message]).flatten().collect::<Vec<_>>().join(": ")
            }
            Self::Malformed { reason } => format!("its response holds no credentials: {reason}"),
        }
    }
}

/// Returns seconds, rounded to hundredths.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    // The innermost error is the system's, or that of rustls inside an error of hyper-rustls.
    sources(error).filter_map(|error| error.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}
