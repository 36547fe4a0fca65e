//! Why something was not read.

use std::path::PathBuf;

use pod_identity_runtime::kubernetes::ApiFailure;

/// Why a source did not say, in time, what it says now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// The API server did not answer within a second of the review's arrival.
    #[error(
        "the API server did not answer within a second. If this lasts, look at its load, and whether the \
         FlowSchema pod-identity-webhook gives this program's reads a priority level of their own"
    )]
    Deadline,
    /// The call failed.
    #[error("{}{}", .0, advice(.0))]
    Api(#[from] ApiFailure),
    /// The peer is at its limit of reads, or the maximum number of reads is running.
    #[error(
        "too many service accounts are being read. If API servers send these reviews, let them present a client \
         certificate (--client-ca-file): it lifts the limit of reads for each peer"
    )]
    Busy,
    /// The watch has not seen all accounts yet.
    #[error("the accounts have not been listed yet, since the program started")]
    NotSynced,
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
            Self::Api(failure) => failure.as_str(),
            Self::Busy => "busy",
            Self::NotSynced => "not_synced",
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
            ". Give this program's reads a priority level of their own: the FlowSchema pod-identity-webhook"
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
            let status = Status::failure("as the test says", "Test").with_code(code);
            let failure = ReadFailure::of(&kube::Error::Api(status.boxed()), "get of serviceaccounts");
            assert_eq!(failure.as_str(), label);
            assert!(failure.to_string().contains("as the test says"), "{failure}");
            assert_eq!(failure.to_string().contains("FlowSchema"), code == 429, "{failure}");
        }
    }
}
