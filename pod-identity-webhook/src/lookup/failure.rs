//! Why a source could not be read.

use std::path::PathBuf;
use std::time::Duration;

use pod_identity_runtime::kubernetes::ApiFailure;

/// Maximum time of a lookup, from the review's arrival. An API server waits 10 s for a webhook by default, and the client
/// that creates the pod waits with it.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// The RBAC rule for reads and the watch of service accounts.
pub(super) const READ_SERVICE_ACCOUNTS: &str =
    "get, list and watch of serviceaccounts in all namespaces (a ClusterRole)";

/// Why a source could not be read in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The API server did not respond within a second of the review's arrival.
    #[error(
        "the API server did not respond within a second. If this lasts, check its load, and that the FlowSchema \
         pod-identity-webhook gives the webhook's reads their own priority level"
    )]
    Deadline,
    /// The call failed.
    #[error("{}{}", .0, advice(.0))]
    Api(#[from] ApiFailure),
    /// The peer is at its limit of reads, or the maximum number of reads is running.
    #[error(
        "too many service accounts are being read. If API servers send these reviews, give them a client certificate \
         (--client-ca-file): their reads then have no limit for each peer"
    )]
    Busy,
    /// The service accounts have not been listed since the start.
    #[error("the service accounts have not been listed yet")]
    NotListed,
    /// The content of the ConfigMap cannot be used.
    #[error("{0}. Its last usable content stays in use: correct the ConfigMap")]
    ConfigMap(String),
    /// The content of a file cannot be used.
    #[error("{}: {reason}. Its last usable content stays in use: correct the file", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why its content cannot be used.
        reason: String,
    },
    /// A changed file is still being read.
    #[error("{} has changed and was not read in time: it is being read", .path.display())]
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
            Self::Api(failure) => failure.as_str(),
            Self::Busy => "busy",
            Self::NotListed => "not_synced",
            Self::ConfigMap(_) => "config_map",
            Self::File { .. } => "file",
            Self::FileSlow { .. } => "file_slow",
        }
    }

    /// Classifies an error of the client. `rule` is the RBAC rule that the call needs.
    pub(crate) fn of(error: &kube::Error, rule: &'static str) -> Self {
        Self::Api(ApiFailure::new(error, rule))
    }
}

fn advice(failure: &ApiFailure) -> &'static str {
    match failure {
        ApiFailure::Throttled(_) => {
            ". Give the webhook's reads their own priority level: apply the FlowSchema pod-identity-webhook"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn names_the_flow_schema_when_the_api_server_limits_reads() {
        for (code, label) in [(429, "throttled"), (503, "server")] {
            let status = Status::failure("the reason", "Test").with_code(code);
            let failure = ReadFailure::of(&kube::Error::Api(status.boxed()), "get of serviceaccounts");
            assert_eq!(failure.as_str(), label);
            assert!(failure.to_string().contains("the reason"), "{failure}");
            assert_eq!(failure.to_string().contains("FlowSchema"), code == 429, "{failure}");
        }
    }
}
