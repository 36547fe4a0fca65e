//! A file of service accounts with Pod Identity, checked for changes in each review.
//!
//! The check is a `stat`. A changed file is read on a thread for blocking work, once for all reviews that wait for it, each
//! until its own deadline. So a file of 100,000 associations, which takes seconds to read, delays no review beyond its
//! deadline, and blocks no other work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use pod_identity_core::identity::ClusterName;
use pod_identity_runtime::association_file::AssociationFile;
use pod_identity_runtime::clock;
use pod_identity_runtime::files::{Fingerprint, Watched, read_regular};
use pod_identity_runtime::shutdown::Shutdown;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::failure::ReadFailure;
use super::metrics::FileMetrics;
use pod_identity_core::inject::PodIdentityServiceAccounts;

/// Maximum size of a file of AWS's webhook in bytes. It names a few hundred service accounts, and Kubernetes allows a
/// ConfigMap 1 MiB.
const MAX_IDENTITIES: usize = 16 * 1024 * 1024;

/// Minimum age of a change after which a fingerprint shows the next change: more than the resolution of file times. Git
/// reads younger files again too (git, *Documentation/technical/racy-git*).
const MIN_AGE: Duration = Duration::from_millis(100);

/// The format of a file.
#[derive(Debug, Clone)]
pub(super) enum Format {
    /// The file of AWS's webhook.
    PodIdentityFile,
    /// The file of `pod-identity-auth`. Only associations of this cluster count.
    Associations(ClusterName),
}

impl Format {
    /// The format as a metric's label.
    fn as_str(&self) -> &'static str {
        match self {
            Self::PodIdentityFile => "identities",
            Self::Associations(_) => "associations",
        }
    }

    fn read(&self, path: &Path) -> Result<PodIdentityServiceAccounts, String> {
        match self {
            Self::PodIdentityFile => {
                let content = read_regular(path, MAX_IDENTITIES).map_err(|error| error.to_string())?;
                PodIdentityServiceAccounts::parse(&content).map_err(|error| error.to_string())
            }
            Self::Associations(cluster) => {
                let file = AssociationFile::read(path).map_err(|error| error.reason().to_owned())?;
                associated(file, cluster)
            }
        }
    }
}

/// Returns the service accounts that have an association in a cluster. Other parts of an association are for
/// `pod-identity-auth` to check.
///
/// # Errors
/// A text if the file names clusters and this one is not among them: a misspelled name must not take all roles away.
fn associated(file: AssociationFile, cluster: &ClusterName) -> Result<PodIdentityServiceAccounts, String> {
    let declared = file.clusters.iter().map(|entry| &entry.name);
    let named: BTreeSet<_> =
        declared.chain(file.associations.iter().map(|entry| &entry.cluster_name)).collect();
    if !named.is_empty() && !named.contains(cluster) {
        let named: Vec<_> = named.into_iter().map(ClusterName::as_str).collect();
        let named = named.join(", ");
        return Err(format!(
            "the file has the clusters {named}, and --cluster-name is {cluster}: correct the flag, or declare the \
             cluster in the file"
        ));
    }
    let of_cluster = file.associations.into_iter().filter(|association| association.cluster_name == *cluster);
    Ok(of_cluster.map(|association| (association.namespace, association.service_account)).collect())
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", .path.display())]
pub struct FileError {
    path: PathBuf,
    reason: String,
}

/// A file and its last usable content.
#[derive(Debug)]
pub(super) struct PodIdentityFile {
    path: PathBuf,
    watched: Watched,
    format: Format,
    current: ArcSwap<PodIdentityServiceAccounts>,
    last_read: Mutex<LastRead>,
    /// Held while the file is read.
    reading: tokio::sync::Mutex<()>,
    metrics: FileMetrics,
}

/// The result of the last read.
#[derive(Debug)]
struct LastRead {
    /// Fingerprint of the content that was read. `None` if a change may have been missed: the file changed while it was
    /// read or just before. The next check reads it again.
    fingerprint: Option<Fingerprint>,
    failure: Option<ReadFailure>,
}

impl PodIdentityFile {
    /// Reads a file for the first time.
    pub(super) fn open(path: PathBuf, format: Format, metrics: FileMetrics) -> Result<Self, FileError> {
        let (watched, before) = (Watched::look(vec![path.clone()]), Observation::of(&path));
        let content = format.read(&path).map_err(|reason| FileError { path: path.clone(), reason })?;
        tracing::info!(file = %path.display(), service_accounts = content.len(), "file of service accounts with Pod Identity read");
        metrics.read(format.as_str(), true);
        Ok(Self {
            watched,
            format,
            current: ArcSwap::from_pointee(content),
            last_read: Mutex::new(LastRead {
                fingerprint: before.certain(Fingerprint::of(&path)),
                failure: None,
            }),
            path,
            reading: tokio::sync::Mutex::new(()),
            metrics,
        })
    }

    /// Returns the current content; or the last usable content, and why it is not current.
    pub(super) async fn current(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> (Arc<PodIdentityServiceAccounts>, Option<ReadFailure>) {
        if self.has_changed() {
            // In a task of its own: a review that is cancelled ends no read that others wait for.
            let reading = tokio::spawn(self.clone().read_again(false));
            let failure = match tokio::time::timeout_at(deadline, reading).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(self.failure(error.to_string())),
                Err(_) => Some(ReadFailure::FileSlow { path: self.path.clone() }),
            };
            if failure.is_some() {
                return (self.current.load_full(), failure);
            }
        }
        let failure = self.last_read.lock().unwrap_or_else(PoisonError::into_inner).failure.clone();
        (self.current.load_full(), failure)
    }

    /// Returns the last usable content.
    pub(super) fn last(&self) -> Arc<PodIdentityServiceAccounts> {
        self.current.load_full()
    }

    fn has_changed(&self) -> bool {
        let now = Fingerprint::of(&self.path);
        self.last_read.lock().unwrap_or_else(PoisonError::into_inner).fingerprint != Some(now)
    }

    fn failure(&self, reason: String) -> ReadFailure {
        ReadFailure::File { path: self.path.clone(), reason }
    }

    /// Reads the file if it changed since the last read, or if `force` is set. Returns whether the content in use is
    /// certainly the file's.
    async fn read_again(self: Arc<Self>, force: bool) -> bool {
        let _reading = self.reading.lock().await;
        // Another task may have read the change meanwhile.
        if force || self.has_changed() {
            self.replace().await;
        }
        let last = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        last.failure.is_none() && last.fingerprint.is_some()
    }

    async fn replace(&self) {
        let (path, format) = (self.path.clone(), self.format.clone());
        let before = Observation::of(&path);
        let read = finished(tokio::task::spawn_blocking(move || format.read(&path)));
        let failure = match read.await {
            Ok(content) => {
                tracing::info!(
                    file = %self.path.display(),
                    service_accounts = content.len(),
                    "file of service accounts with Pod Identity reloaded"
                );
                self.current.store(Arc::new(content));
                None
            }
            Err(reason) => {
                let failure = self.failure(reason);
                tracing::error!("{failure}");
                Some(failure)
            }
        };
        self.metrics.read(self.format.as_str(), failure.is_none());
        let fingerprint = before.certain(Fingerprint::of(&self.path));
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner) = LastRead { fingerprint, failure };
    }

    /// Reads the file when it changes between reviews, until the shutdown, so that the next review need not wait. A file that
    /// cannot be used is read again every 30 s.
    pub(super) async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let watched = self.watched.clone();
        let failed =
            |file: &Self| file.last_read.lock().unwrap_or_else(PoisonError::into_inner).failure.is_some();
        watched.follow(shutdown, || self.clone().read_again(failed(&self))).await;
    }
}

/// The state of a file before it is read.
struct Observation {
    fingerprint: Fingerprint,
    at: SystemTime,
}

impl Observation {
    fn of(path: &Path) -> Self {
        Self { fingerprint: Fingerprint::of(path), at: clock::now() }
    }

    /// Returns the fingerprint after the read if no other content can have been read.
    fn certain(&self, afterwards: Fingerprint) -> Option<Fingerprint> {
        let certain = self.fingerprint == afterwards && !self.fingerprint.is_younger_than(MIN_AGE, self.at);
        certain.then_some(afterwards)
    }
}

/// Waits for a read. A panic is a failure too.
async fn finished<T>(reading: JoinHandle<Result<T, String>>) -> Result<T, String> {
    reading.await.unwrap_or_else(|error| Err(format!("reading it was interrupted: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_associations_of_this_cluster_and_rejects_a_file_without_it() {
        let file = |text: &str| AssociationFile::parse(text).unwrap();
        let entry = |cluster: &str, service_account: &str| {
            format!(
                "- {{clusterName: {cluster}, namespace: shop, serviceAccount: {service_account}, \
                 roleArn: 'arn:aws:iam::111122223333:role/x'}}\n"
            )
        };
        let both = format!("associations:\n{}{}", entry("demo", "cart"), entry("other", "pay"));
        let demo = "demo".parse().unwrap();
        let found = associated(file(&both), &demo).unwrap();
        let contains = |name: &str| found.contains(&"shop".parse().unwrap(), &name.parse().unwrap());
        assert_eq!((contains("cart"), contains("pay"), found.len()), (true, false, 1));

        let declared = "clusters: [{name: demo, issuer: x}]\nassociations: []";
        for text in [declared, "associations: []"] {
            assert!(associated(file(text), &demo).unwrap().is_empty(), "{text}");
        }
        let error = associated(file(&both), &"dmeo".parse().unwrap()).unwrap_err();
        assert!(error.contains("demo, other") && error.contains("--cluster-name is dmeo"), "{error}");
    }

    #[test]
    fn a_fingerprint_is_certain_if_it_is_the_same_and_not_just_changed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        std::fs::write(&path, "1").unwrap();
        std::fs::write(&other, "2").unwrap();
        let fingerprint = Fingerprint::of(&path);
        let at = |later| Observation { fingerprint, at: clock::now() + Duration::from_millis(later) };
        assert_eq!(at(60_000).certain(fingerprint), Some(fingerprint));
        assert_eq!(at(60_000).certain(Fingerprint::of(&other)), None);
        let changed = path.metadata().unwrap().modified().unwrap();
        assert_eq!(Observation { fingerprint, at: changed }.certain(fingerprint), None);
    }

    #[tokio::test]
    async fn a_read_that_panics_fails_with_a_reason() {
        let panics = || -> Result<(), String> { panic!("a panic of the test") };
        let reason = finished(tokio::task::spawn_blocking(panics)).await.unwrap_err();
        assert!(reason.contains("panicked"), "{reason}");
        assert_eq!(finished(tokio::spawn(async { Ok(7) })).await, Ok(7));
    }
}
