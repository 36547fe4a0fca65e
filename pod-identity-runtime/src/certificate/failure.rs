//! Failures of the rotation, and the calls of the API server that cause them.

use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::Api;
use kube::api::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};

use crate::kubernetes::ApiFailure;

/// Maximum time for one call.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Duration of one watch request, in seconds: shorter than the client's read timeout.
const WATCH_SECONDS: u32 = 60;

/// The reason for which a step of the rotation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateFailure {
    /// The object changed after it was read. The next round reads it again.
    #[error("changed by another client meanwhile")]
    Conflict,
    /// A call of the API server failed.
    #[error("{action}: {failure}")]
    Call {
        /// The call, as in "reading the Secret".
        action: &'static str,
        /// The reason.
        failure: ApiFailure,
    },
    /// A certificate cannot be made.
    #[error("no certificate can be made: {0}")]
    Make(String),
    /// The Secret has a newer format, and its generations cannot be read.
    #[error(
        "the Secret {secret} has the format version {found:?}, and its entry {entry} cannot be read; this program reads \
         version {known}: upgrade it, or delete the Secret to begin with a new certificate"
    )]
    Format {
        /// The Secret's name.
        secret: String,
        /// The entry that cannot be read.
        entry: &'static str,
        /// The format version of the Secret, cut.
        found: String,
        /// The format version of this program.
        known: u32,
    },
    /// No step failed on this replica, but the certificate was not replaced in time.
    #[error(
        "five sixths of the certificate's lifetime are over and it is not replaced, although no step failed: check that \
         its authority can be published, and that no other program overwrites the published authorities"
    )]
    Overdue,
}

impl CertificateFailure {
    /// Returns all labels of [`as_str`](Self::as_str).
    pub(super) fn labels() -> impl Iterator<Item = &'static str> {
        ApiFailure::ALL.into_iter().chain(["conflict", "make", "format", "overdue"])
    }

    /// Returns the reason as a metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Call { failure, .. } => failure.as_str(),
            Self::Make(_) => "make",
            Self::Format { .. } => "format",
            Self::Overdue => "overdue",
        }
    }

    /// Waits up to 5 s for a call of the API server. `rule` is the RBAC rule that it needs.
    ///
    /// # Errors
    /// [`Conflict`](Self::Conflict) if the object has changed or is gone, otherwise [`Call`](Self::Call).
    pub async fn call<T>(
        action: &'static str,
        rule: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Self> {
        match tokio::time::timeout(CALL_LIMIT, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Err(Self::Conflict),
            Ok(Err(error)) => Err(Self::Call { action, failure: ApiFailure::new(&error, rule) }),
            Err(_) => Err(Self::Call { action, failure: ApiFailure::Deadline(CALL_LIMIT) }),
        }
    }
}

/// Returns a stream with an item after each change of the object of that name. It never ends: a failed watch begins again
/// by itself.
pub(super) fn changes<K>(api: Api<PartialObjectMeta<K>>, name: &str) -> BoxStream<'static, ()>
where
    K: 'static,
    PartialObjectMeta<K>:
        kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send,
{
    let only = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    watcher(api, only).default_backoff().filter_map(async |event| event.ok().map(drop)).boxed()
}
