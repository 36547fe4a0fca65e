//! Looks up the facts about a service account for each review.
//!
//! A pod is admitted once, so its review needs current facts. Each review reads its service account from the API server.
//! Reviews share a read only if it begins after all of them arrived. A changed file is read again before the response.
//! The watch answers if the API server does not answer in time, and the result says so.

mod config_map; // roles from the ConfigMap
mod failure; // why a source could not be read
mod freshness; // whether a result is current
mod metrics; // reads and their results
mod object; // a service account's metadata
mod pod_identity_file; // files of service accounts with Pod Identity
mod reads; // reads that reviews share
mod service_accounts; // service accounts, from a read or from the watch
mod watch; // the watch of all service accounts

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use kube::Client;
use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_core::inject::ServiceAccountSettings;
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use self::config_map::ConfigMapLookup;
pub use self::failure::{DEADLINE, ReadFailure};
pub use self::freshness::Freshness;
use self::metrics::{FileMetrics, ReadMetrics};
pub use self::pod_identity_file::FileError;
use self::pod_identity_file::{Format, PodIdentityFile};
use self::service_accounts::ServiceAccounts;
use crate::config::{Config, ServiceAccountRead};

/// All sources of facts about service accounts. Clones share them.
#[derive(Debug, Clone)]
pub struct Lookup {
    files: Arc<[Arc<PodIdentityFile>]>,
    service_accounts: Option<Arc<ServiceAccounts>>,
    config_map: Option<Arc<ConfigMapLookup>>,
}

/// What the sources say about a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupResult {
    /// Whether a file gives it Pod Identity.
    pub associated: bool,
    /// The settings of its annotations or of the ConfigMap.
    pub settings: ServiceAccountSettings,
    /// Whether these are current.
    pub freshness: Freshness,
}

impl Lookup {
    /// Reads the files of the configuration. With a client and if the configuration asks for it, [`follow`](Self::follow)
    /// then lists the service accounts; `readiness` waits for that list.
    ///
    /// # Errors
    /// [`FileError`] if a file cannot be used. After the start such a file is a failure of the lookup only.
    pub fn open(
        config: &Config,
        client: Option<&Client>,
        readiness: &Readiness,
        registry: &mut Registry,
    ) -> Result<Self, FileError> {
        let files = files(config, registry)?;
        let settings = Arc::new(config.settings.clone());
        let reads = ReadMetrics::register(registry);
        let service_accounts = client.filter(|_| config.service_account_read != ServiceAccountRead::Never);
        let service_accounts = service_accounts.map(|client| {
            let read = config.service_account_read;
            Arc::new(ServiceAccounts::new(client, read, &settings, readiness, &reads, registry))
        });
        let config_map = client
            .filter(|_| config.watch_config_map)
            .map(|client| Arc::new(ConfigMapLookup::new(client, &config.namespace, &settings, &reads)));
        tracing::info!(
            service_accounts = %config.service_account_read,
            config_map = config_map.is_some(),
            pod_identity_file = config.pod_identity_file.is_some(),
            associations = config.associations.is_some(),
            "sources of roles opened"
        );
        Ok(Self { files, service_accounts, config_map })
    }

    /// Looks up a service account, [`DEADLINE`] after the review's arrival at the latest. A read of the API server counts
    /// against the limit of the review's peer; `None` is a peer without limit.
    pub async fn of(
        &self,
        namespace: &Namespace,
        service_account: &ServiceAccount,
        peer: Option<IpAddr>,
        arrived: Instant,
    ) -> LookupResult {
        let deadline = (arrived + DEADLINE).into();
        let ((associated, of_files), (settings, of_api_server)) = tokio::join!(
            self.associated(namespace, service_account, deadline),
            self.settings(namespace, service_account, peer, deadline),
        );
        let (settings, of_api_server) = match &self.config_map {
            // Pod Identity precedes IRSA, so another role would have no effect.
            Some(config_map) if settings.role.is_none() && !associated => {
                let (map, of_map) = config_map.current(deadline).await;
                (settings.or_mapped(map.lookup(namespace, service_account)), of_api_server.and(of_map))
            }
            _ => (settings, of_api_server),
        };
        let freshness = match of_files {
            // The method is decided, whatever the annotations are.
            Freshness::Fresh if associated => Freshness::Fresh,
            of_files => of_files.and(of_api_server),
        };
        LookupResult { associated, settings, freshness }
    }

    async fn settings(
        &self,
        namespace: &Namespace,
        service_account: &ServiceAccount,
        peer: Option<IpAddr>,
        deadline: tokio::time::Instant,
    ) -> (ServiceAccountSettings, Freshness) {
        match &self.service_accounts {
            Some(service_accounts) => service_accounts.of(namespace, service_account, peer, deadline).await,
            None => (ServiceAccountSettings::default(), Freshness::Fresh),
        }
    }

    /// Returns whether a file gives the service account Pod Identity. One current file that does so decides, whatever the
    /// state of the others.
    async fn associated(
        &self,
        namespace: &Namespace,
        service_account: &ServiceAccount,
        deadline: tokio::time::Instant,
    ) -> (bool, Freshness) {
        let (mut associated, mut freshness) = (false, Freshness::Fresh);
        for file in self.files.iter() {
            let (content, failure) = file.current(deadline).await;
            match (content.contains(namespace, service_account), failure) {
                (true, None) => return (true, Freshness::Fresh),
                (found, Some(failure)) => {
                    associated |= found;
                    freshness = freshness.and(Freshness::Stale(failure));
                }
                (false, None) => {}
            }
        }
        (associated, freshness)
    }

    /// Returns whether a source may give the service account a role, from data in memory. `false` saves a read.
    pub fn may_have_role(&self, namespace: &Namespace, service_account: &ServiceAccount) -> bool {
        let in_file = || self.files.iter().any(|file| file.last().contains(namespace, service_account));
        let in_watch = || {
            let service_accounts = self.service_accounts.as_ref();
            service_accounts.is_some_and(|all| all.may_have_settings(namespace, service_account))
        };
        self.config_map.is_some() || in_file() || in_watch()
    }

    /// Keeps files and watch current until the shutdown.
    pub async fn follow(self, readiness: Readiness, shutdown: Shutdown) {
        let mut following: JoinSet<()> =
            self.files.iter().map(|file| file.clone().follow(shutdown.clone())).collect();
        if let Some(service_accounts) = self.service_accounts {
            following.spawn(async move { service_accounts.follow(readiness, shutdown).await });
        }
        while let Some(ended) = following.join_next().await {
            // The panic goes on in this task, so that supervision sees it.
            if let Err(error) = ended
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

fn files(config: &Config, registry: &mut Registry) -> Result<Arc<[Arc<PodIdentityFile>]>, FileError> {
    let metrics = FileMetrics::register(registry);
    let of_aws = config.pod_identity_file.clone().map(|path| (path, Format::PodIdentityFile));
    let associations = config.associations.clone();
    let associations = associations.map(|source| (source.file, Format::Associations(source.cluster)));
    let files = of_aws.into_iter().chain(associations);
    files.map(|(path, format)| PodIdentityFile::open(path, format, metrics.clone()).map(Arc::new)).collect()
}

#[cfg(test)]
mod tests;
