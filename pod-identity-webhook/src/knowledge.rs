//! What is known of a service account when a review asks.
//!
//! Nothing that was read earlier is the last word: a pod is decided about once. So files are looked at in
//! each review, and read again before the answer where they changed.

mod failure; // why something was not read
mod file; // the files of accounts that have Pod Identity
mod metrics; // what was read, and what was not

use std::sync::Arc;
use std::time::{Duration, Instant};

use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

pub use self::failure::ReadFailure;
pub use self::file::FileError;
use self::file::{Form, IdentityFile};
use self::metrics::FileMetrics;
use crate::account::AccountSettings;
use crate::config::Config;

/// How long a review may wait for what it has to know, from its arrival on. The API server itself waits 10 s
/// for a webhook by default, and whoever creates the pod waits with it.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// What is known of accounts, from all sources. Clones are the same.
#[derive(Debug, Clone)]
pub struct Knowledge {
    files: Arc<[Arc<IdentityFile>]>,
}

/// What is known of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether an association gives it a role.
    pub associated: bool,
    /// What it says itself, or the ConfigMap of it.
    pub account: AccountSettings,
    /// How sure that is.
    pub freshness: Freshness,
}

/// Whether an answer holds for the moment at which the review arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// It does: all that decides was read after that, or a file says that the account has Pod Identity.
    Fresh,
    /// A source could not be read in time: what was known of it before is the answer. That is what the watch
    /// has seen, or what a file or the ConfigMap last said.
    FromWatch(ReadFailure),
    /// A source could not be read in time, and never was before.
    Unknown(ReadFailure),
}

impl Freshness {
    /// Both at once: the worse one counts.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (unknown @ Self::Unknown(_), _) | (_, unknown @ Self::Unknown(_)) => unknown,
            (stale @ Self::FromWatch(_), _) | (_, stale @ Self::FromWatch(_)) => stale,
            (Self::Fresh, Self::Fresh) => Self::Fresh,
        }
    }
}

impl Knowledge {
    /// What the files of the configuration say, and nothing that the API server would have to be asked for.
    ///
    /// # Errors
    /// [`FileError`]: at the start a file that cannot be used is fatal, later it is not.
    pub fn of_files(config: &Config, registry: &mut Registry) -> Result<Self, FileError> {
        let metrics = FileMetrics::register(registry);
        let identities = config.identities.clone().map(|path| (path, Form::Identities));
        let associations = config.associations.clone();
        let associations = associations.map(|source| (source.file, Form::Associations(source.cluster)));
        let files = identities
            .into_iter()
            .chain(associations)
            .map(|(path, form)| IdentityFile::open(path, form, metrics.clone()).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { files })
    }

    /// What is known of an account, for a review that arrived at `arrived`. It is there [`DEADLINE`] after
    /// that at the latest.
    pub async fn of(&self, namespace: &Namespace, account: &ServiceAccount, arrived: Instant) -> Answer {
        let deadline = (arrived + DEADLINE).into();
        let (associated, freshness) = self.associated(namespace, account, deadline).await;
        Answer { associated, account: AccountSettings::default(), freshness }
    }

    /// Whether a file says that the account has Pod Identity. A file that says so as it is now decides, in
    /// whatever state the others are.
    async fn associated(
        &self,
        namespace: &Namespace,
        account: &ServiceAccount,
        deadline: tokio::time::Instant,
    ) -> (bool, Freshness) {
        let (mut associated, mut freshness) = (false, Freshness::Fresh);
        for file in self.files.iter() {
            let (identities, failure) = file.current(deadline).await;
            match (identities.contains(namespace, account), failure) {
                (true, None) => return (true, Freshness::Fresh),
                (found, Some(failure)) => {
                    associated |= found;
                    freshness = freshness.and(Freshness::FromWatch(failure));
                }
                (false, None) => {}
            }
        }
        (associated, freshness)
    }

    /// Keeps it current between reviews, until the shutdown.
    pub async fn follow(self, readiness: Readiness, shutdown: Shutdown) {
        let _ = readiness; // files have been read before anything is served
        let mut following: JoinSet<()> =
            self.files.iter().map(|file| file.clone().follow(shutdown.clone())).collect();
        while following.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
