//! A file of accounts that have Pod Identity: looked at in each review, read again where it changed.
//!
//! A look is a `stat`. What a review finds changed is read on a thread for blocking work, by one reading for
//! all reviews that wait for it, each until its own deadline. So a file of 100,000 associations, which takes
//! seconds to read, keeps no review longer than that, and no other work at all.

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

/// How old a change has to be for a fingerprint to tell the next one from it: more than the step in which file
/// systems count. Git calls files that are younger racily clean, and reads them again
/// (git, *Documentation/technical/racy-git*).
const SETTLED: Duration = Duration::from_millis(100);

/// What a file's content is.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// That of AWS's webhook.
    Identities,
    /// That of pod-identity-auth, of which the associations of this cluster count.
    Associations(ClusterName),
}

impl Form {
    /// The form as a metric's label.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Identities => "identities",
            Self::Associations(_) => "associations",
        }
    }

    fn read(&self, path: &Path) -> Result<PodIdentityServiceAccounts, String> {
        match self {
            Self::Identities => {
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

/// A file, and what it last said.
#[derive(Debug)]
pub(super) struct IdentityFile {
    path: PathBuf,
    watched: Watched,
    form: Form,
    current: ArcSwap<PodIdentityServiceAccounts>,
    reading: Mutex<Reading>,
    /// Held by the one reading that there is.
    turn: tokio::sync::Mutex<()>,
    metrics: FileMetrics,
}

/// How the last reading went.
#[derive(Debug)]
struct Reading {
    /// The file as it was read. `None` where that is not certain, so that the next look reads it again: it changed
    /// while it was read, or so shortly before that another change may look the same.
    settled: Option<Fingerprint>,
    failure: Option<ReadFailure>,
}

impl IdentityFile {
    /// Reads a file for the first time.
    pub(super) fn open(path: PathBuf, form: Form, metrics: FileMetrics) -> Result<Self, FileError> {
        let (watched, looked) = (Watched::look(vec![path.clone()]), Look::at(&path));
        let identities = form.read(&path).map_err(|reason| FileError { path: path.clone(), reason })?;
        tracing::info!(file = %path.display(), accounts = identities.len(), "accounts with Pod Identity");
        metrics.read(form.as_str(), true);
        Ok(Self {
            watched,
            form,
            current: ArcSwap::from_pointee(identities),
            reading: Mutex::new(Reading { settled: looked.settled(Fingerprint::of(&path)), failure: None }),
            path,
            turn: tokio::sync::Mutex::new(()),
            metrics,
        })
    }

    /// What the file says now, or what it said before and why not now.
    pub(super) async fn current(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> (Arc<PodIdentityServiceAccounts>, Option<ReadFailure>) {
        if self.has_changed() {
            // A task of its own: a review that hangs up or gives up ends no reading that others wait for.
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
        let failure = self.reading.lock().unwrap_or_else(PoisonError::into_inner).failure.clone();
        (self.current.load_full(), failure)
    }

    /// What it last said.
    pub(super) fn known(&self) -> Arc<PodIdentityServiceAccounts> {
        self.current.load_full()
    }

    fn has_changed(&self) -> bool {
        let now = Fingerprint::of(&self.path);
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).settled != Some(now)
    }

    fn failure(&self, reason: String) -> ReadFailure {
        ReadFailure::File { path: self.path.clone(), reason }
    }

    /// Reads the file where it changed since the last reading, or in any case. Says whether what is in use is
    /// what the file says, and certainly so.
    async fn read_again(self: Arc<Self>, in_any_case: bool) -> bool {
        let _turn = self.turn.lock().await;
        // Whoever waited for another reading may find everything done.
        if in_any_case || self.has_changed() {
            self.replace().await;
        }
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        reading.failure.is_none() && reading.settled.is_some()
    }

    async fn replace(&self) {
        let (path, form) = (self.path.clone(), self.form.clone());
        let looked = Look::at(&path);
        let read = finished(tokio::task::spawn_blocking(move || form.read(&path)));
        let failure = match read.await {
            Ok(identities) => {
                tracing::info!(
                    file = %self.path.display(),
                    accounts = identities.len(),
                    "accounts with Pod Identity were read again"
                );
                self.current.store(Arc::new(identities));
                None
            }
            Err(reason) => {
                let failure = self.failure(reason);
                tracing::error!("{failure}");
                Some(failure)
            }
        };
        self.metrics.read(self.form.as_str(), failure.is_none());
        let settled = looked.settled(Fingerprint::of(&self.path));
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Reading { settled, failure };
    }

    /// Reads the file when it changes between reviews, so that the next one need not wait, until the shutdown.
    /// What cannot be used is read again every half a minute.
    pub(super) async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let watched = self.watched.clone();
        let failed =
            |file: &Self| file.reading.lock().unwrap_or_else(PoisonError::into_inner).failure.is_some();
        watched.follow(shutdown, || self.clone().read_again(failed(&self))).await;
    }
}

/// A file before it is read.
struct Look {
    fingerprint: Fingerprint,
    at: SystemTime,
}

impl Look {
    fn at(path: &Path) -> Self {
        Self { fingerprint: Fingerprint::of(path), at: clock::now() }
    }

    /// What the file is known by from now on, where nothing else can have been read than what is there now.
    fn settled(&self, afterwards: Fingerprint) -> Option<Fingerprint> {
        let certain = self.fingerprint == afterwards && !self.fingerprint.is_younger_than(SETTLED, self.at);
        certain.then_some(afterwards)
    }
}

/// What a reading gives. One that panicked gives a reason too.
async fn finished<T>(reading: JoinHandle<Result<T, String>>) -> Result<T, String> {
    reading.await.unwrap_or_else(|error| Err(format!("the reading did not end: {error}")))
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
    fn a_file_is_settled_where_it_is_as_before_and_has_not_just_changed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        std::fs::write(&path, "1").unwrap();
        std::fs::write(&other, "2").unwrap();
        let fingerprint = Fingerprint::of(&path);
        let at = |later| Look { fingerprint, at: clock::now() + Duration::from_millis(later) };
        assert_eq!(at(60_000).settled(fingerprint), Some(fingerprint));
        assert_eq!(at(60_000).settled(Fingerprint::of(&other)), None);
        let changed = path.metadata().unwrap().modified().unwrap();
        assert_eq!(Look { fingerprint, at: changed }.settled(fingerprint), None);
    }

    #[tokio::test]
    async fn a_reading_that_panics_gives_a_reason() {
        let panics = || -> Result<(), String> { panic!("as the test says") };
        let reason = finished(tokio::task::spawn_blocking(panics)).await.unwrap_err();
        assert!(reason.contains("panicked"), "{reason}");
        assert_eq!(finished(tokio::spawn(async { Ok(7) })).await, Ok(7));
    }
}
