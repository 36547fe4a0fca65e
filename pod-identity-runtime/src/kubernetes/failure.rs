//! The reasons for which a call of the API server fails.

use std::time::Duration;

use crate::cause::chain;

/// The reason for which a call of the API server failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiFailure {
    /// The API server did not answer within the limit of the caller.
    #[error("the API server did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// No connection to the API server, or the connection broke.
    #[error("the API server cannot be reached: {0}")]
    Connection(String),
    /// The API server does not accept the program's credentials (401).
    #[error("the API server does not accept this program's token or certificate: {0}")]
    Unauthorized(String),
    /// RBAC does not allow the call (403).
    #[error(
        "the API server forbids the call: {reason}. Give this program's service account the RBAC rule: {rule}"
    )]
    Forbidden {
        /// The API server's message.
        reason: String,
        /// The rule that allows the call.
        rule: &'static str,
    },
    /// The API server limits the program's calls (429).
    #[error("the API server limits this program's calls (429): {0}")]
    Throttled(String),
    /// The API server has a fault (500 and above).
    #[error("the API server has a fault: {0}")]
    Server(String),
    /// The answer is of another form than expected.
    #[error("the API server's answer cannot be used: {0}")]
    Answer(String),
}

impl ApiFailure {
    /// All labels of [`as_str`](Self::as_str).
    pub const ALL: [&str; 7] =
        ["deadline", "connection", "unauthorized", "forbidden", "throttled", "server", "answer"];

    /// Returns the reason as a metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Deadline(_) => "deadline",
            Self::Connection(_) => "connection",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::Throttled(_) => "throttled",
            Self::Server(_) => "server",
            Self::Answer(_) => "answer",
        }
    }

    /// Classifies an error of the client. `rule` is the RBAC rule that the call needs.
    pub fn new(error: &kube::Error, rule: &'static str) -> Self {
        match error {
            kube::Error::Api(status) => {
                let message = || format!("{} ({})", status.message, status.code);
                match status.code {
                    401 => Self::Unauthorized(message()),
                    403 => Self::Forbidden { reason: status.message.clone(), rule },
                    429 => Self::Throttled(status.message.clone()),
                    500.. => Self::Server(message()),
                    _ => Self::Answer(message()),
                }
            }
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::Answer(chain(error)),
            // For example, the file of the program's own token cannot be read.
            kube::Error::Auth(_) => Self::Unauthorized(chain(error)),
            _ => Self::Connection(chain(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn status_of_the_api_server_tells_the_reason_and_403_names_the_rule() {
        let rule = "get of serviceaccounts";
        let failure = |code: u16| {
            let status = Status::failure("as the test says", "Test").with_code(code);
            ApiFailure::new(&kube::Error::Api(status.boxed()), rule)
        };
        for (code, label) in [
            (401, "unauthorized"),
            (403, "forbidden"),
            (409, "answer"),
            (429, "throttled"),
            (500, "server"),
            (503, "server"),
        ] {
            let failure = failure(code);
            assert_eq!(failure.as_str(), label, "{code}");
            assert!(failure.to_string().contains("as the test says"), "{failure}");
            assert_eq!(failure.to_string().contains(rule), code == 403, "{failure}");
        }
    }

    #[test]
    fn failure_on_the_way_has_its_causes() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let failure = ApiFailure::new(&kube::Error::ReadEvents(refused), "");
        assert_eq!(failure.as_str(), "connection");
        assert!(failure.to_string().contains("connection refused"), "{failure}");
    }
}
