//! What is known of a service account when a review asks.
//!
//! Nothing that was read earlier is the last word: a pod is decided about once. So each review reads its
//! account from the API server, and shares that read only with those that arrived before it began. Files are
//! looked at in each review, and read again before the answer where they changed. What a watch has seen is
//! for when the API server cannot be asked in time, and the answer says so.

mod accounts; // service accounts: read, or as the watch has seen them
mod complaints; // what is said of failures
mod failure; // why something was not read
mod file; // the files of accounts that have Pod Identity
mod metrics; // what was read, and what was not
mod object; // a service account, as far as it is looked at
mod reads; // reads that reviews share
mod roles; // the ConfigMap
mod watch; // what the watch has seen

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use self::accounts::Accounts;
pub use self::failure::ReadFailure;
pub use self::file::FileError;
use self::file::{Form, IdentityFile};
use self::metrics::{FileMetrics, ReadMetrics};
use self::roles::Roles;
use crate::config::{AccountRead, Config};
use pod_identity_core::inject::ServiceAccountSettings;

/// The readiness condition that all service accounts have been listed once.
const ACCOUNTS_CONDITION: &str = "service_accounts";

/// How long a review may wait for what it has to know, from its arrival on. The API server itself waits 10 s
/// for a webhook by default, and whoever creates the pod waits with it.
pub const DEADLINE: Duration = Duration::from_secs(1);

/// What is known of accounts, from all sources. Clones are the same.
#[derive(Debug, Clone)]
pub struct Knowledge {
    files: Arc<[Arc<IdentityFile>]>,
    accounts: Option<Arc<Accounts>>,
    roles: Option<Arc<Roles>>,
}

/// What is known of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether an association gives it a role.
    pub associated: bool,
    /// What it says itself, or the ConfigMap of it.
    pub account: ServiceAccountSettings,
    /// How sure that is.
    pub freshness: Freshness,
}

/// Whether an answer holds for the moment at which the review arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// It does: all that decides was read after that, or a file says that the account has Pod Identity.
    Fresh,
    /// The service account could not be read in time. The answer comes from the watch, which works and lags by
    /// moments at most.
    Recent(ReadFailure),
    /// A source could not be read in time: what was known of it before is the answer. That is what the watch
    /// has seen before it failed, or what a file or the ConfigMap last said.
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
            (recent @ Self::Recent(_), _) | (_, recent @ Self::Recent(_)) => recent,
            (Self::Fresh, Self::Fresh) => Self::Fresh,
        }
    }

    /// Returns why a source could not be read in time.
    pub fn failure(&self) -> Option<&ReadFailure> {
        match self {
            Self::Fresh => None,
            Self::Recent(failure) | Self::FromWatch(failure) | Self::Unknown(failure) => Some(failure),
        }
    }
}

impl Knowledge {
    /// Reads the files of the configuration for the first time; the API server is asked from then on, where there
    /// is a client and the configuration says so. Until all accounts have been listed, `readiness` says
    /// so: [`follow`](Self::follow) lists them.
    ///
    /// # Errors
    /// [`FileError`]: at the start a file that cannot be used is fatal, later it is not.
    pub fn open(
        config: &Config,
        client: Option<&Client>,
        readiness: &Readiness,
        registry: &mut Registry,
    ) -> Result<Self, FileError> {
        let files = files(config, registry)?;
        let settings = Arc::new(config.settings.clone());
        let reads = ReadMetrics::register(registry);
        let accounts = client.filter(|_| config.account_read != AccountRead::Never).map(|client| {
            readiness.pending(ACCOUNTS_CONDITION, "the service accounts have not been listed yet");
            Arc::new(Accounts::new(client, config.account_read, &settings, &reads, registry))
        });
        let roles = client.filter(|_| config.watch_config_map);
        let roles = roles.map(|client| Arc::new(Roles::new(client, &config.namespace, &settings, &reads)));
        tracing::info!(
            service_accounts = match config.account_read {
                AccountRead::Fresh => "read for each review",
                AccountRead::Cache => "as the watch has seen them",
                AccountRead::Never => "not read",
            },
            config_map = roles.is_some(),
            identities = config.identities.is_some(),
            associations = config.associations.is_some(),
            "where it is known from who has a role; associations of EKS are not known here"
        );
        Ok(Self { files, accounts, roles })
    }

    /// Returns the lookup's result for a service account, [`DEADLINE`] after the review's arrival at the latest. A
    /// read of the API server counts against the limit of the review's peer; `None` is a peer without limit.
    pub async fn of(
        &self,
        namespace: &Namespace,
        account: &ServiceAccount,
        peer: Option<IpAddr>,
        arrived: Instant,
    ) -> Answer {
        let deadline = (arrived + DEADLINE).into();
        let ((associated, by_files), (settings, by_api_server)) = tokio::join!(
            self.associated(namespace, account, deadline),
            self.account(namespace, account, peer, deadline),
        );
        let (settings, by_api_server) = match &self.roles {
            // What gives a role to an account that has Pod Identity would change nothing.
            Some(roles) if settings.role.is_none() && !associated => {
                let (map, by_roles) = roles.current(deadline).await;
                (settings.or_mapped(map.lookup(namespace, account)), by_api_server.and(by_roles))
            }
            _ => (settings, by_api_server),
        };
        let freshness = match by_files {
            // The way to credentials is decided, whatever else the account may say.
            Freshness::Fresh if associated => Freshness::Fresh,
            by_files => by_files.and(by_api_server),
        };
        Answer { associated, account: settings, freshness }
    }

    async fn account(
        &self,
        namespace: &Namespace,
        account: &ServiceAccount,
        peer: Option<IpAddr>,
        deadline: tokio::time::Instant,
    ) -> (ServiceAccountSettings, Freshness) {
        match &self.accounts {
            Some(accounts) => accounts.of(namespace, account, peer, deadline).await,
            None => (ServiceAccountSettings::default(), Freshness::Fresh),
        }
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

    /// Whether anything that is known at this moment, without asking, may give the account a role, or says how
    /// one is given.
    pub fn may_have_role(&self, namespace: &Namespace, account: &ServiceAccount) -> bool {
        let in_file = || self.files.iter().any(|file| file.known().contains(namespace, account));
        let seen =
            || self.accounts.as_ref().is_some_and(|accounts| accounts.may_have_role(namespace, account));
        self.roles.is_some() || in_file() || seen()
    }

    /// Keeps it current between reviews, until the shutdown.
    pub async fn follow(self, readiness: Readiness, shutdown: Shutdown) {
        let mut following: JoinSet<()> =
            self.files.iter().map(|file| file.clone().follow(shutdown.clone())).collect();
        if let Some(accounts) = self.accounts {
            following.spawn(async move { accounts.follow(readiness, shutdown).await });
        }
        while let Some(ended) = following.join_next().await {
            // A panic is one of whoever waits: nobody may go by what is no longer followed.
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

fn files(config: &Config, registry: &mut Registry) -> Result<Arc<[Arc<IdentityFile>]>, FileError> {
    let metrics = FileMetrics::register(registry);
    let identities = config.identities.clone().map(|path| (path, Form::Identities));
    let associations = config.associations.clone();
    let associations = associations.map(|source| (source.file, Form::Associations(source.cluster)));
    let files = identities.into_iter().chain(associations);
    files.map(|(path, form)| IdentityFile::open(path, form, metrics.clone()).map(Arc::new)).collect()
}

#[cfg(test)]
mod tests;
