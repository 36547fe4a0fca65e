//! The association file: clusters, the keys of their issuers, and associations.

mod issuer;

pub use pod_identity_runtime::association_file::{
    AssociationEntry, AssociationFile, ClusterEntry, FileError, IssuerEntry, KeysEntry,
};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use pod_identity_core::association::AssociationTable;
use pod_identity_core::cluster::Cluster;
use pod_identity_core::identity::{ClusterName, WorkloadIdentity};
use pod_identity_core::service::{
    AssociationLookup, BuildError, CredentialService, Issuer, LookupFuture, TokenVerification,
};
use pod_identity_runtime::files::{FileMetrics, Watched};
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyFetcher};
use pod_identity_runtime::metrics::register_gauges;
use pod_identity_runtime::outbound::{Outbound, OutboundError};
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Registry;

/// The content of the file at one time.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The associations.
    pub associations: AssociationTable,
    clusters: Vec<(Cluster, Vec<(IssuerConfig, Issuer)>)>,
}

impl Snapshot {
    /// Returns the clusters for the credential service.
    pub fn clusters(&self) -> impl Iterator<Item = (Cluster, TokenVerification)> {
        self.clusters.iter().map(|(cluster, issuers)| {
            let issuers: Vec<Issuer> = issuers.iter().map(|(_, issuer)| issuer.clone()).collect();
            (cluster.clone(), issuers.into())
        })
    }

    /// Returns every issuer with its cluster.
    pub fn issuers(&self) -> impl Iterator<Item = (&ClusterName, &Issuer)> {
        self.clusters
            .iter()
            .flat_map(|(cluster, issuers)| issuers.iter().map(move |(_, issuer)| (&cluster.name, issuer)))
    }

    /// Returns the issuers without keys, each as `cluster <name> (<issuer>)`, sorted.
    pub fn without_keys(&self) -> Vec<String> {
        let missing = self.issuers().filter(|(_, issuer)| issuer.keys().is_none());
        let mut missing: Vec<_> =
            missing.map(|(name, issuer)| format!("cluster {name} ({})", issuer.url())).collect();
        missing.sort();
        missing
    }

    fn issuer(&self, cluster: &ClusterName, config: &IssuerConfig) -> Option<Issuer> {
        let (_, issuers) = self.clusters.iter().find(|(known, _)| known.name == *cluster)?;
        issuers.iter().find(|(known, _)| known == config).map(|(_, issuer)| issuer.clone())
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A cluster's entry contradicts itself.
    #[error("{}: cluster {cluster}: {reason}", .path.display())]
    Cluster {
        /// The file.
        path: PathBuf,
        /// The cluster.
        cluster: ClusterName,
        /// The contradiction.
        reason: String,
    },
    /// The client for an issuer's keys cannot be created.
    #[error("cluster {cluster}: {reason}")]
    Issuer {
        /// The cluster.
        cluster: ClusterName,
        /// The cause.
        reason: OutboundError,
    },
    /// The credential service refuses the clusters.
    #[error(transparent)]
    Service(#[from] BuildError),
}

/// Labels of an issuer. An operator chooses both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    cluster: String,
    issuer: String,
}

/// The association file and its last valid content.
#[derive(Debug)]
pub struct AssociationStore {
    path: PathBuf,
    watched: Watched,
    extra_cluster: Option<ClusterEntry>,
    outbound: Outbound,
    current: ArcSwap<Snapshot>,
    /// Two increments for each replacement. It is odd while the clusters of the credential service differ from
    /// `current`.
    generation: AtomicU64,
}

/// A replacement in progress. Drop ends it, also after a panic, because requests wait for its end.
struct Replacing<'a>(&'a AtomicU64);

impl<'a> Replacing<'a> {
    fn begin(generation: &'a AtomicU64) -> Self {
        generation.fetch_add(1, Ordering::SeqCst);
        Self(generation)
    }
}

impl Drop for Replacing<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl AssociationStore {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// [`StoreError`]: a broken file is fatal at the start only.
    pub fn open(
        path: PathBuf,
        extra_cluster: Option<ClusterEntry>,
        outbound: Outbound,
        metrics: &FileMetrics,
    ) -> Result<Self, StoreError> {
        let watched = Watched::look(vec![path.clone()]).counted(metrics, "associations");
        let (current, generation) = (ArcSwap::default(), AtomicU64::new(0));
        let store = Self { path, watched, extra_cluster, outbound, current, generation };
        store.replace(Arc::new(store.read()?));
        Ok(store)
    }

    /// Registers `pod_identity_issuer_keys` and `pod_identity_issuer_keys_age_seconds`.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        let store = self.clone();
        let help = "Usable public keys, by cluster and issuer; 0 before the first fetch";
        register_gauges(registry, "pod_identity_issuer_keys", help, move || {
            store.of_issuers(|issuer| {
                i64::try_from(issuer.keys().map_or(0, |keys| keys.key_ids().count())).ok()
            })
        });
        let store = self.clone();
        let help = "Seconds since the last fetch of the keys, by cluster and issuer";
        register_gauges(registry, "pod_identity_issuer_keys_age_seconds", help, move || {
            store.of_issuers(|issuer| issuer.age().map(|age| age.as_secs_f64()))
        });
    }

    fn of_issuers<N>(&self, read: impl Fn(&Issuer) -> Option<N>) -> Vec<(IssuerLabels, N)> {
        let of_issuer = |(name, issuer): (&ClusterName, &Issuer)| {
            let labels = IssuerLabels { cluster: name.to_string(), issuer: issuer.url().to_owned() };
            Some((labels, read(issuer)?))
        };
        self.snapshot().issuers().filter_map(of_issuer).collect()
    }

    /// Returns the last valid content.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Returns the generation of the current content, for [`is_current`](Self::is_current).
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Whether clusters and associations have been those of the same content since that generation.
    pub fn is_current(&self, generation: u64) -> bool {
        generation.is_multiple_of(2) && self.generation() == generation
    }

    /// Reads the file.
    fn read(&self) -> Result<Snapshot, StoreError> {
        let file = AssociationFile::read(&self.path)?;
        let file = match &self.extra_cluster {
            Some(cluster) => file.with_cluster(cluster.clone()),
            None => file,
        };
        let associations = file.table().map_err(|error| error.at(&self.path))?;
        let cluster = |entry: &ClusterEntry| {
            let cluster = entry.cluster().map_err(|error| error.at(&self.path))?;
            Ok((cluster, self.issuers(entry)?))
        };
        let clusters = file.clusters.iter().map(cluster).collect::<Result<_, StoreError>>()?;
        Ok(Snapshot { associations, clusters })
    }

    /// Returns the issuers of a cluster. An unchanged issuer keeps its keys.
    fn issuers(&self, entry: &ClusterEntry) -> Result<Vec<(IssuerConfig, Issuer)>, StoreError> {
        let configs = issuer::configs(entry, &self.outbound).map_err(|reason| StoreError::Cluster {
            path: self.path.clone(),
            cluster: entry.name.clone(),
            reason,
        })?;
        let current = self.current.load();
        let issuer = |config: IssuerConfig| match current.issuer(&entry.name, &config) {
            Some(issuer) => Ok((config, issuer)),
            None => KeyFetcher::new(config.clone()).map(|fetcher| (config, fetcher.into_issuer())),
        };
        let issuers = configs.into_iter().map(issuer).collect::<Result<_, _>>();
        issuers.map_err(|reason| StoreError::Issuer { cluster: entry.name.clone(), reason })
    }

    /// Reads the file again, and replaces the clusters of the service and the associations.
    fn reload(&self, service: &CredentialService) -> Result<Arc<Snapshot>, StoreError> {
        let snapshot = Arc::new(self.read()?);
        let _replacing = Replacing::begin(&self.generation);
        service.set_clusters(snapshot.clusters())?;
        self.replace(snapshot.clone());
        Ok(snapshot)
    }

    fn replace(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot.clone());
        tracing::info!(
            file = %self.path.display(),
            clusters = snapshot.clusters.len(),
            associations = snapshot.associations.iter().count(),
            "associations loaded"
        );
    }

    /// Follows the file until the shutdown, and passes each new content to the service and to `replaced`. While the
    /// file is invalid, the old associations stay in use, and the file is read again every 30 s.
    ///
    /// The file is read on a thread for blocking work, because 100,000 associations take a second or two. Requests use
    /// the old associations meanwhile.
    pub async fn follow(
        self: Arc<Self>,
        service: CredentialService,
        shutdown: Shutdown,
        replaced: impl Fn(&Snapshot) + Send + Sync + 'static,
    ) {
        let (watched, replaced) = (self.watched.clone(), Arc::new(replaced));
        let replace = || {
            let (store, service, replaced) = (self.clone(), service.clone(), replaced.clone());
            async move {
                tracing::info!(file = %store.path.display(), "association file changed");
                let reloading = tokio::task::spawn_blocking({
                    let service = service.clone();
                    move || {
                        store.reload(&service).map(|snapshot| replaced(&snapshot)).map_err(|e| e.to_string())
                    }
                });
                match reloading.await.unwrap_or_else(|panic| Err(panic.to_string())) {
                    Ok(()) => service.recheck_associations().await,
                    Err(error) => {
                        tracing::error!(error, "associations not replaced; the old ones stay in use");
                        return false;
                    }
                }
                true
            }
        };
        watched.follow(shutdown, replace).await;
    }
}

impl AssociationLookup for AssociationStore {
    fn association<'a>(&'a self, cluster: &'a Cluster, pod: &'a WorkloadIdentity) -> LookupFuture<'a> {
        let current = self.current.load();
        let found = current.associations.lookup(&cluster.name, &pod.namespace, &pod.service_account);
        let found = found.ok().map(|(_, association)| association.clone());
        Box::pin(std::future::ready(Ok(found)))
    }
}
