//! The settings of service accounts: from a read for each review, or from the watch.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kube::{Api, Client};
use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_core::inject::{ServiceAccountSettings, Settings};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::failure::{READ_SERVICE_ACCOUNTS, ReadFailure};
use super::freshness::Freshness;
use super::metrics::{LookupMetrics, ReadMetrics};
use super::object::ServiceAccountObject;
use super::reads::{SharedReads, Source};
use super::watch::Watch;
use crate::config::ServiceAccountRead;

/// The service accounts of the cluster.
#[derive(Debug)]
pub(super) struct ServiceAccounts {
    /// `None` if only the watch is used.
    reads: Option<Arc<SharedReads<ServiceAccountSource>>>,
    watch: Arc<Watch>,
    metrics: LookupMetrics,
}

impl ServiceAccounts {
    pub(super) fn new(
        client: &Client,
        read: ServiceAccountRead,
        settings: &Arc<Settings>,
        readiness: &Readiness,
        reads: &ReadMetrics,
        registry: &mut Registry,
    ) -> Self {
        let source = ServiceAccountSource { client: client.clone(), settings: settings.clone() };
        let reads = match read {
            ServiceAccountRead::Fresh => Some(SharedReads::new(source, reads.of("service_account"))),
            ServiceAccountRead::Cache | ServiceAccountRead::Never => None,
        };
        let watch = Arc::new(Watch::new(client.clone(), settings.clone(), readiness, registry));
        Self { reads, watch, metrics: LookupMetrics::register(registry) }
    }

    /// Returns the settings of a service account. One that does not exist has none.
    pub(super) async fn of(
        &self,
        namespace: &Namespace,
        service_account: &ServiceAccount,
        peer: Option<IpAddr>,
        deadline: Instant,
    ) -> (ServiceAccountSettings, Freshness) {
        let failure = match &self.reads {
            Some(reads) => {
                match reads.read((namespace.clone(), service_account.clone()), peer, deadline).await {
                    Ok(found) => {
                        self.metrics.read.inc();
                        return (found.as_deref().cloned().unwrap_or_default(), Freshness::Fresh);
                    }
                    Err(failure) => Some(failure),
                }
            }
            None => self.watch.failure(),
        };
        match (self.watch.settings(namespace, service_account), failure) {
            (Some(settings), failure) => {
                self.metrics.watch.inc();
                let freshness = match failure {
                    None => Freshness::Fresh,
                    Some(failure) if self.watch.failure().is_none() => Freshness::Recent(failure),
                    Some(failure) => Freshness::Stale(failure),
                };
                (settings, freshness)
            }
            (None, failure) => {
                self.metrics.none.inc();
                let failure = failure.unwrap_or(ReadFailure::NotListed);
                (ServiceAccountSettings::default(), Freshness::Unknown(failure))
            }
        }
    }

    /// Returns whether the watch has settings of the service account, or is not current. Settings without a role count:
    /// IRSA through the agent applies to a role from the ConfigMap or of a container.
    pub(super) fn may_have_settings(&self, namespace: &Namespace, service_account: &ServiceAccount) -> bool {
        self.watch.failure().is_some()
            || self
                .watch
                .settings(namespace, service_account)
                .is_none_or(|settings| settings != ServiceAccountSettings::default())
    }

    pub(super) async fn follow(&self, readiness: Readiness, shutdown: Shutdown) {
        self.watch.follow(readiness, shutdown).await;
    }
}

/// Reads one service account from the API server.
struct ServiceAccountSource {
    client: Client,
    settings: Arc<Settings>,
}

impl Source for ServiceAccountSource {
    type Key = (Namespace, ServiceAccount);
    type Found = Option<Arc<ServiceAccountSettings>>;

    /// Reads without a `resourceVersion`: the API server answers from etcd by quorum, not from its own cache (Kubernetes,
    /// *API concepts*, resource versions).
    async fn read(&self, (namespace, service_account): &Self::Key) -> Result<Self::Found, ReadFailure> {
        let api: Api<ServiceAccountObject> = Api::namespaced(self.client.clone(), namespace.as_str());
        let found = api.get_opt(service_account.as_str()).await;
        let found = found.map_err(|error| ReadFailure::of(&error, READ_SERVICE_ACCOUNTS))?;
        let settings = |annotations: BTreeMap<_, _>| {
            Arc::new(ServiceAccountSettings::from_annotations(&annotations, &self.settings))
        };
        Ok(found.map(|object| settings(object.into_annotations())))
    }
}
