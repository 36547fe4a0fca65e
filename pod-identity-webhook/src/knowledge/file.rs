//! A file of accounts that have Pod Identity: looked at in each review, read again where it changed.
//!
//! A look is a `stat`. What a review finds changed is read on a thread for blocking work, by one reading for
//! all reviews that wait for it, each until its own deadline. So a file of 100,000 associations, which takes
//! seconds to read, keeps no review longer than that, and no other work at all.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use pod_identity_core::identity::ClusterName;
use pod_identity_runtime::association_file::AssociationFile;
use pod_identity_runtime::files::{Fingerprint, Watched};
use pod_identity_runtime::shutdown::Shutdown;
use tokio::time::Instant;

use super::changes::{Change, Changes};
use super::failure::ReadFailure;
use super::metrics::FileMetrics;
use crate::identities::Identities;

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

    fn read(&self, path: &Path) -> Result<Identities, String> {
        match self {
            Self::Identities => {
                let content = std::fs::read(path).map_err(|error| error.to_string())?;
                Identities::parse(&content).map_err(|error| error.to_string())
            }
            Self::Associations(cluster) => {
                let file = AssociationFile::read(path).map_err(|error| error.reason().to_owned())?;
                Identities::associated(file, cluster).map_err(|error| error.to_string())
            }
        }
    }
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
    current: ArcSwap<Identities>,
    reading: Mutex<Reading>,
    /// Held by the one reading that there is.
    turn: tokio::sync::Mutex<()>,
    metrics: FileMetrics,
    changes: Changes,
}

/// How the last reading went.
#[derive(Debug)]
struct Reading {
    /// The file before it was read: what changes meanwhile is found at the next look.
    seen: Fingerprint,
    failure: Option<ReadFailure>,
}

impl IdentityFile {
    /// Reads a file for the first time.
    pub(super) fn open(
        path: PathBuf,
        form: Form,
        metrics: FileMetrics,
        changes: Changes,
    ) -> Result<Self, FileError> {
        let (watched, seen) = (Watched::look(vec![path.clone()]), Fingerprint::of(&path));
        let identities = form.read(&path).map_err(|reason| FileError { path: path.clone(), reason })?;
        tracing::info!(file = %path.display(), accounts = identities.len(), "accounts with Pod Identity");
        metrics.read(form.as_str(), true);
        Ok(Self {
            path,
            watched,
            form,
            current: ArcSwap::from_pointee(identities),
            reading: Mutex::new(Reading { seen, failure: None }),
            turn: tokio::sync::Mutex::new(()),
            metrics,
            changes,
        })
    }

    /// What the file says now, or what it said before and why not now.
    pub(super) async fn current(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> (Arc<Identities>, Option<ReadFailure>) {
        if self.has_changed() {
            // A task of its own: a review that hangs up or gives up ends no reading that others wait for.
            let reading = tokio::spawn(self.clone().read_again(false));
            if tokio::time::timeout_at(deadline, reading).await.is_err() {
                let failure = ReadFailure::FileSlow { path: self.path.clone() };
                return (self.current.load_full(), Some(failure));
            }
        }
        let failure = self.reading.lock().unwrap_or_else(PoisonError::into_inner).failure.clone();
        (self.current.load_full(), failure)
    }

    /// What it last said.
    pub(super) fn known(&self) -> Arc<Identities> {
        self.current.load_full()
    }

    fn has_changed(&self) -> bool {
        let now = Fingerprint::of(&self.path);
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).seen != now
    }

    /// Reads the file where it changed since the last reading, or in any case. Says whether what is in use is
    /// what the file says.
    async fn read_again(self: Arc<Self>, in_any_case: bool) -> bool {
        let _turn = self.turn.lock().await;
        // Whoever waited for another reading may find everything done.
        if in_any_case || self.has_changed() {
            let file = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || file.replace()).await {
                tracing::error!(file = %self.path.display(), %error, "the file was not read");
            }
        }
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).failure.is_none()
    }

    fn replace(&self) {
        let seen = Fingerprint::of(&self.path);
        let failure = match self.form.read(&self.path) {
            Ok(identities) => {
                tracing::info!(
                    file = %self.path.display(),
                    accounts = identities.len(),
                    "accounts with Pod Identity were read again"
                );
                self.current.store(Arc::new(identities));
                self.changes.say(|| Change::Everything);
                None
            }
            Err(reason) => {
                let failure = ReadFailure::File { path: self.path.clone(), reason };
                tracing::error!("{failure}");
                Some(failure)
            }
        };
        self.metrics.read(self.form.as_str(), failure.is_none());
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Reading { seen, failure };
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
