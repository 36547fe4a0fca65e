//! Clusters, their keys and their associations: one snapshot, swapped whole.

mod issuer;

pub use pod_identity_runtime::association_file::{
    AssociationEntry, AssociationFile, ClusterEntry, FileError, IssuerEntry, KeysEntry,
};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pod_identity_core::association::AssociationTable;
use pod_identity_core::identity::ClusterName;
use pod_identity_runtime::files::{FileMetrics, Watched};
use pod_identity_runtime::issuer_keys::{AcceptedIssuers, IssuerConfig, IssuerKeys};
use pod_identity_runtime::metrics::register_gauges;
use pod_identity_runtime::outbound::{Outbound, OutboundError};
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_runtime::tasks::Tasks;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Registry;

/// Everything that a request is judged by, as of one reading of the file.
#[derive(Debug)]
pub struct Snapshot {
    /// The associations.
    pub associations: AssociationTable,
    clusters: HashMap<ClusterName, ClusterIssuers>,
}

/// What a cluster accepts.
#[derive(Debug)]
struct ClusterIssuers {
    issuers: Vec<Arc<Issuer>>,
    accepted: AcceptedIssuers,
}

/// An issuer of a cluster, kept fresh by a task that ends with it.
#[derive(Debug)]
struct Issuer {
    config: IssuerConfig,
    keys: Arc<IssuerKeys>,
    _following: Ender,
}

impl Snapshot {
    /// The issuers that a cluster accepts.
    pub fn issuers_of(&self, cluster: &ClusterName) -> Option<&AcceptedIssuers> {
        self.clusters.get(cluster).map(|cluster| &cluster.accepted)
    }

    fn keys(&self) -> impl Iterator<Item = (&ClusterName, &IssuerKeys)> {
        self.clusters.iter().flat_map(|(name, of)| of.accepted.iter().map(move |keys| (name, &**keys)))
    }

    /// The issuers without keys, each as `cluster <name> (<issuer>)`, sorted.
    pub fn without_keys(&self) -> Vec<String> {
        let missing = self.keys().filter(|(_, keys)| keys.current().is_none());
        let mut missing: Vec<_> =
            missing.map(|(name, keys)| format!("cluster {name} ({})", keys.issuer())).collect();
        missing.sort();
        missing
    }

    /// The number of issuers.
    pub fn issuers(&self) -> usize {
        self.keys().count()
    }
}

/// Why a snapshot could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is of no use.
    #[error(transparent)]
    File(#[from] FileError),
    /// What a cluster says of its issuer contradicts itself, or cannot be asked.
    #[error("{}: cluster {cluster}: {reason}", .path.display())]
    Cluster {
        /// The file.
        path: PathBuf,
        /// The cluster.
        cluster: ClusterName,
        /// What is wrong.
        reason: String,
    },
    /// An issuer cannot be asked.
    #[error("cluster {cluster}: {reason}")]
    Issuer {
        /// The cluster.
        cluster: ClusterName,
        /// Why.
        reason: OutboundError,
    },
}

/// Labels of an issuer. An operator chooses both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuerLabels {
    cluster: String,
    issuer: String,
}

/// The file, and the newest snapshot that it gave.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    watched: Watched,
    extra_cluster: Option<ClusterEntry>,
    outbound: Outbound,
    tasks: Tasks,
    current: ArcSwap<Snapshot>,
}

impl Store {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// [`StoreError`]: at the start a broken file is fatal, later it is not.
    pub fn open(
        path: PathBuf,
        extra_cluster: Option<ClusterEntry>,
        outbound: Outbound,
        metrics: &FileMetrics,
        tasks: Tasks,
    ) -> Result<Self, StoreError> {
        let empty = Snapshot { associations: AssociationTable::default(), clusters: HashMap::new() };
        let watched = Watched::look(vec![path.clone()]).counted(metrics, "associations");
        let store =
            Self { path, watched, extra_cluster, outbound, tasks, current: ArcSwap::from_pointee(empty) };
        store.reload()?;
        Ok(store)
    }

    /// Registers `pod_identity_issuer_keys` and `pod_identity_issuer_keys_age_seconds`.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        let store = self.clone();
        let help = "Usable public keys, by cluster and issuer; 0 until they are fetched";
        register_gauges(registry, "pod_identity_issuer_keys", help, move || {
            store.of_issuers(|keys| {
                i64::try_from(keys.current().map_or(0, |keys| keys.key_ids().count())).ok()
            })
        });
        let store = self.clone();
        let help = "Seconds since the keys were last fetched, by cluster and issuer";
        register_gauges(registry, "pod_identity_issuer_keys_age_seconds", help, move || {
            store.of_issuers(|keys| keys.age().map(|age| age.as_secs_f64()))
        });
    }

    fn of_issuers<N>(&self, read: impl Fn(&IssuerKeys) -> Option<N>) -> Vec<(IssuerLabels, N)> {
        let of_issuer = |(name, keys): (&ClusterName, &IssuerKeys)| {
            let labels = IssuerLabels { cluster: name.to_string(), issuer: keys.issuer().to_owned() };
            Some((labels, read(keys)?))
        };
        self.snapshot().keys().filter_map(of_issuer).collect()
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Reads the file again and replaces the snapshot, whole or not at all. Issuers that did not
    /// change keep their keys.
    ///
    /// # Errors
    /// [`StoreError`]; the old snapshot stays.
    pub fn reload(&self) -> Result<(), StoreError> {
        let file = AssociationFile::read(&self.path)?;
        let file = match &self.extra_cluster {
            Some(cluster) => file.with_cluster(cluster.clone()),
            None => file,
        };
        let associations = file.table().map_err(|error| error.at(&self.path))?;
        let before = self.current.load();
        let clusters = file
            .clusters
            .iter()
            .map(|entry| Ok((entry.name.clone(), self.issuers(entry, before.clusters.get(&entry.name))?)))
            .collect::<Result<_, StoreError>>()?;
        let snapshot = Snapshot { associations, clusters };
        tracing::info!(
            file = %self.path.display(),
            clusters = snapshot.clusters.len(),
            associations = snapshot.associations.iter().count(),
            "associations in use"
        );
        self.current.store(Arc::new(snapshot));
        Ok(())
    }

    /// The issuers of a cluster. Those that did not change keep their keys.
    fn issuers(
        &self,
        entry: &ClusterEntry,
        before: Option<&ClusterIssuers>,
    ) -> Result<ClusterIssuers, StoreError> {
        let configs = issuer::configs(entry, &self.outbound).map_err(|reason| StoreError::Cluster {
            path: self.path.clone(),
            cluster: entry.name.clone(),
            reason,
        })?;
        let of = |config: IssuerConfig| {
            let kept = before.and_then(|before| before.issuers.iter().find(|issuer| issuer.config == config));
            match kept {
                Some(issuer) => Ok(issuer.clone()),
                None => Issuer::follow(config, &self.tasks).map(Arc::new),
            }
        };
        let issuers = configs.into_iter().map(of).collect::<Result<Vec<_>, _>>();
        let issuers = issuers.map_err(|reason| StoreError::Issuer { cluster: entry.name.clone(), reason })?;
        let accepted = AcceptedIssuers::new(issuers.iter().map(|issuer| issuer.keys.clone()).collect());
        Ok(ClusterIssuers { issuers, accepted })
    }

    /// Follows the file until the shutdown. A broken file keeps the old associations, says why, and is read
    /// again every half a minute: what it names may be there by then.
    /// `replaced` is shown each new snapshot.
    ///
    /// A file of 100,000 associations takes a second or two to read: that is done on a thread of its own,
    /// and requests go on meanwhile with what was there before.
    pub async fn follow(
        self: Arc<Self>,
        shutdown: Shutdown,
        replaced: impl Fn(&Snapshot) + Send + Sync + 'static,
    ) {
        let (watched, replaced) = (self.watched.clone(), Arc::new(replaced));
        let replace = || {
            tracing::info!(file = %self.path.display(), "the associations are read again");
            let (store, replaced) = (self.clone(), replaced.clone());
            let replacing = tokio::task::spawn_blocking(move || match store.reload() {
                Ok(()) => {
                    replaced(&store.snapshot());
                    true
                }
                Err(error) => {
                    tracing::error!(%error, "the associations were not replaced; the old ones stay in use");
                    false
                }
            });
            async move {
                replacing.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "the associations were not replaced; the old ones stay in use");
                    false
                })
            }
        };
        watched.follow(shutdown, replace).await;
    }
}

impl Issuer {
    fn follow(config: IssuerConfig, tasks: &Tasks) -> Result<Self, OutboundError> {
        let keys = IssuerKeys::new(config.clone())?;
        let (following, shutdown) = Shutdown::manual();
        tasks.spawn("issuer keys", shutdown.clone(), keys.clone().follow(shutdown));
        Ok(Self { config, keys, _following: following })
    }
}
