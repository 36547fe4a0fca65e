//! Why something was not read.

use std::path::PathBuf;
use std::time::Duration;

use pod_identity_runtime::cause::chain;

/// Maximum time of a lookup, from the review's arrival. An API server waits 10 s for a webhook by default, and the client
/// that creates the pod waits with it.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// The RBAC rule for reads and the watch of service accounts.
pub(super) const READ_SERVICE_ACCOUNTS: &str =
    "get, list and watch of serviceaccounts in all namespaces (a ClusterRole)";

/// Why a source could not be read in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The API server did not answer within a second of the review's arrival.
    #[error(
        "the API server did not answer within a second. If this lasts, look at its load, and whether the \
         FlowSchema pod-identity-webhook gives this program's reads a priority level of their own"
    )]
    Deadline,
    /// The API server could not be reached, or hung up.
    #[error("the API server cannot be reached: {0}")]
    Connection(String),
    /// The API server does not know who asks.
    #[error("the API server does not take this program's token or certificate: {0}")]
    Unauthorized(String),
    /// The API server knows, and says no.
    #[error("the API server forbids it: {reason}. This program's account needs the RBAC rule: {rule}")]
    Forbidden {
        /// What the API server says.
        reason: String,
        /// What has to be allowed.
        rule: &'static str,
    },
    /// The API server asks to be asked less.
    #[error(
        "the API server is asked too much (429): {0}. Give this program's reads a priority level of their own: the \
         FlowSchema pod-identity-webhook"
    )]
    Throttled(String),
    /// The API server fails.
    #[error("the API server fails: {0}")]
    Server(String),
    /// What came is no answer to what was asked.
    #[error("the API server's answer cannot be used: {0}")]
    Answer(String),
    /// The peer is at its limit of reads, or the maximum number of reads is running.
    #[error(
        "too many service accounts are being read. If API servers send these reviews, let them present a client \
         certificate (--client-ca-file): it lifts the limit of reads for each peer"
    )]
    Busy,
    /// The watch has not seen all accounts yet.
    #[error("the accounts have not been listed yet, since the program started")]
    NotListed,
    /// The ConfigMap holds what cannot be used.
    #[error("{0}. What it held before stays in use; mend the ConfigMap")]
    ConfigMap(String),
    /// A file has changed, and what it holds now cannot be used.
    #[error("{}: {reason}. What it held before stays in use; mend the file", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file has changed, and is still being read.
    #[error("{} has changed and could not be read in time; the next review may find it read", .path.display())]
    FileSlow {
        /// The file.
        path: PathBuf,
    },
}

impl ReadFailure {
    /// The failure as a metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Connection(_) => "connection",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::Throttled(_) => "throttled",
            Self::Server(_) => "server",
            Self::Answer(_) => "answer",
            Self::Busy => "busy",
            Self::NotListed => "not_synced",
            Self::ConfigMap(_) => "config_map",
            Self::File { .. } => "file",
            Self::FileSlow { .. } => "file_slow",
        }
    }

    /// What an error of the client means. `rule` is what RBAC has to allow for it.
    pub(crate) fn of(error: &kube::Error, rule: &'static str) -> Self {
        match error {
            kube::Error::Api(status) => {
                let said = || format!("{} ({})", status.message, status.code);
                match status.code {
                    401 => Self::Unauthorized(said()),
                    403 => Self::Forbidden { reason: status.message.clone(), rule },
                    429 => Self::Throttled(status.message.clone()),
                    500.. => Self::Server(said()),
                    _ => Self::Answer(said()),
                }
            }
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::Answer(chain(error)),
            // Its own token's file, for example.
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
    fn the_status_code_gives_the_label_and_403_names_the_rule() {
        let rule = "get of serviceaccounts";
        let failure = |code: u16| {
            let status = Status::failure("the reason", "Test").with_code(code);
            ReadFailure::of(&kube::Error::Api(status.boxed()), rule)
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
            assert!(failure.to_string().contains("the reason"), "{failure}");
            assert_eq!(failure.to_string().contains(rule), code == 403, "{failure}");
        }
    }

    #[test]
    fn a_connection_failure_contains_its_causes() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let failure = ReadFailure::of(&kube::Error::ReadEvents(refused), "");
        assert_eq!(failure.as_str(), "connection");
        assert!(failure.to_string().contains("connection refused"), "{failure}");
    }
}
