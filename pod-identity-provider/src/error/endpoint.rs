//! Why an endpoint gave no credentials.

use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};

use aws_smithy_runtime_api::client::dns::ResolveDnsError;

use pod_identity_core::error::ErrorCode;

use super::hints;

/// Why the endpoint gave no credentials: what its last answer was, or why there was none.
#[derive(Debug, Clone)]
pub struct EndpointError {
    pub(crate) endpoint: String,
    pub(crate) failure: Failure,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) took: Duration,
}

/// What one attempt came to. Its texts are fit to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its name was not resolved.
    Unresolved { reason: String },
    /// Nobody listens.
    Refused,
    /// There is no way to the address.
    NoRoute { reason: String },
    /// Nobody took the connection.
    NotConnected { limit: Duration },
    /// The whole answer did not come in time.
    TimedOut { limit: Duration },
    /// TLS came to no agreement.
    Insecure { reason: String },
    /// The connection ended, or could not be used.
    Broken { reason: String },
    /// An answer that says why there are no credentials.
    Answer { status: u16, code: Option<String>, message: String, page: bool },
    /// An answer that should have been credentials.
    Malformed { reason: String },
}

impl EndpointError {
    /// Scheme, host and port of the endpoint. Its path is a secret on ECS.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The status of the last answer, where that was none with credentials.
    pub fn status(&self) -> Option<u16> {
        match self.failure {
            Failure::Answer { status, .. } => Some(status),
            _ => None,
        }
    }

    /// The endpoint's own words, where it answered with some.
    pub fn message(&self) -> Option<&str> {
        match &self.failure {
            Failure::Answer { message, .. } => {
                Some(message).filter(|message| !message.is_empty()).map(String::as_str)
            }
            _ => None,
        }
    }

    /// How long after its last answer the endpoint wants to be asked again, where it said so (`Retry-After`, of which 30 s
    /// are the most that is followed) and that was not waited for: it would have been beyond the deadline, or the answer is
    /// final.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// How often it was asked.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How long all of that took.
    pub fn took(&self) -> Duration {
        self.took
    }

    pub(super) fn code(&self) -> Option<&str> {
        match &self.failure {
            Failure::Answer { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    pub(super) fn is_retryable(&self) -> bool {
        self.failure.is_retryable()
    }

    pub(super) fn cause(&self) -> String {
        let Self { endpoint, failure, attempts, took, .. } = self;
        let cause = format!("no credentials from {endpoint}: {}", failure.cause());
        match attempts {
            1 => cause,
            // Before the message, which may end with what to do about it.
            _ => format!("{attempts} attempts in {:.1} s, {cause}", took.as_secs_f64()),
        }
    }

    pub(super) fn hint(&self) -> Option<&'static str> {
        hints::of(&self.failure, &self.endpoint)
    }
}

/// What happened, without what to do about it: that is [`Error::hint`](crate::Error::hint).
impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

impl StdError for EndpointError {}

impl Failure {
    /// What may pass by itself: what happens on the way, and answers that say so, by their status and where this
    /// project's agent gave a code, by that. What the endpoint says of the request is final, and so is an answer that no credentials can be read from.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Unresolved { .. }
            | Self::Refused
            | Self::NoRoute { .. }
            | Self::NotConnected { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. } => true,
            Self::Answer { status, code, .. } => {
                let own: Option<ErrorCode> = code.as_deref().and_then(|code| code.parse().ok());
                matches!(status, 408 | 429 | 500..=599) && own.is_none_or(ErrorCode::is_retryable)
            }
            // What it says of its certificate it will say again.
            Self::Insecure { .. } | Self::Malformed { .. } => false,
        }
    }

    /// Whether the address was not reached at all, so that another address of the name may be.
    pub(crate) fn is_of_address(&self) -> bool {
        matches!(self, Self::Refused | Self::NoRoute { .. } | Self::NotConnected { .. })
    }

    /// What an error before the answer comes to.
    pub(crate) fn of_request(error: &(dyn StdError + 'static)) -> Self {
        if let Some(unresolved) = sources(error).find(|error| error.is::<ResolveDnsError>()) {
            return Self::Unresolved { reason: Self::chain(unresolved) };
        }
        match io_kind(error) {
            // rustls's verdict on a certificate or a handshake (tokio-rustls, `Stream::read_io`).
            Some(io::ErrorKind::InvalidData) => Self::Insecure { reason: Self::chain(error) },
            _ => Self::of_connection(error),
        }
    }

    /// What an error of a connection comes to.
    pub(crate) fn of_connection(error: &(dyn StdError + 'static)) -> Self {
        let reason = Self::chain(error);
        match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            Some(
                // The last is what a local firewall rule makes of a connection (`connect(2)`, EPERM and EACCES).
                io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::PermissionDenied,
            ) => Self::NoRoute { reason },
            _ => Self::Broken { reason },
        }
    }

    /// An error with all that led to it.
    pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
        let mut texts: Vec<String> = Vec::new();
        for text in sources(error).map(ToString::to_string) {
            // Some errors print their source too.
            if !texts.iter().any(|before| before.contains(&text)) {
                texts.push(text);
            }
        }
        texts.join(": ")
    }

    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Unresolved { reason } => format!("its name was not resolved: {reason}"),
            Self::Refused => "nobody listens there (connection refused)".to_owned(),
            Self::NoRoute { reason } => format!("it cannot be reached: {reason}"),
            Self::NotConnected { limit } => {
                format!("nobody took the connection within {} s", seconds(*limit))
            }
            Self::TimedOut { limit } => format!("no whole answer within {} s", seconds(*limit)),
            Self::Insecure { reason } => format!("TLS failed: {reason}"),
            Self::Broken { reason } => format!("the connection failed: {reason}"),
            Self::Answer { status, code, message, .. } => {
                let code = code.as_deref().filter(|code| !message.contains(code));
                let parts = [Some(format!("status {status}")), code.map(str::to_owned)];
                let said = Some(message.clone()).filter(|message| !message.is_empty());
                parts.into_iter().chain([said]).flatten().collect::<Vec<_>>().join(": ")
            }
            Self::Malformed { reason } => format!("its answer holds no credentials: {reason}"),
        }
    }
}

/// Seconds, to the hundredth.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    // The innermost: the system's, or rustls's within one of hyper-rustls's.
    sources(error).filter_map(|error| error.downcast_ref::<io::Error>()).last().map(io::Error::kind)
}

/// An error and what led to it. `io::Error::source` passes over the error that it holds.
fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|error| error as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn answer(status: u16, code: Option<&str>, message: &str) -> Error {
        answer_of("http://169.254.170.23", status, code, message)
    }

    fn answer_of(endpoint: &str, status: u16, code: Option<&str>, message: &str) -> Error {
        let failure = Failure::Answer {
            status,
            code: code.map(str::to_owned),
            message: message.to_owned(),
            page: false,
        };
        Error::Endpoint(EndpointError {
            endpoint: endpoint.to_owned(),
            failure,
            retry_after: None,
            attempts: 1,
            took: Duration::ZERO,
        })
    }

    #[test]
    fn an_error_says_the_cause_and_then_what_to_do() {
        let error = answer(404, Some("ResourceNotFoundException"), "no association.");
        assert_eq!(
            error.to_string(),
            "no credentials from http://169.254.170.23: status 404: ResourceNotFoundException: no association. Create an \
             association for this cluster, namespace and service account."
        );
        assert_eq!(error.code(), Some("ResourceNotFoundException"));
        assert!(!error.is_retryable());
    }

    #[test]
    fn what_the_message_of_an_agent_holds_is_not_said_twice() {
        let fix = ErrorCode::AssociationNotFound.fix();
        let message = format!("There is none. {fix} [association_not_found]");
        let error = answer(404, Some("association_not_found"), &message);
        assert_eq!(
            error.to_string(),
            format!("no credentials from http://169.254.170.23: status 404: {message}")
        );
        assert_eq!(error.hint(), Some(fix));
    }

    #[test]
    fn every_code_of_this_project_has_its_fix_for_a_hint() {
        for code in ErrorCode::ALL {
            assert_eq!(answer(400, Some(code.as_str()), "").hint(), Some(code.fix()), "{code}");
        }
    }

    #[test]
    fn what_is_true_of_the_agents_of_eks_alone_is_said_of_their_addresses_alone() {
        for agents in ["http://169.254.170.23", "http://[fd00:ec2::23]:8080"] {
            let hint = answer_of(agents, 403, None, "").hint().unwrap();
            assert!(hint.contains("AWS's agent"), "{agents}: {hint}");
        }
        for other in ["http://169.254.170.2", "http://127.0.0.1:8080", "https://169.254.170.23.example.com"] {
            for status in [403, 404, 500] {
                let hint = answer_of(other, status, None, "").hint().unwrap_or_default();
                assert!(!hint.contains("agent") && !hint.contains("/v1/credentials"), "{other}: {hint}");
            }
        }
    }

    #[test]
    fn an_endpoints_words_can_be_had() {
        let Error::Endpoint(error) = answer(404, None, "no association") else { panic!() };
        assert_eq!(
            (error.message(), error.to_string().ends_with("404: no association")),
            (Some("no association"), true)
        );
    }
}
