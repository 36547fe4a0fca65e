//! What service accounts say: read for each review, or as the watch has seen them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kube::{Api, Client};
use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::Freshness;
use super::failure::ReadFailure;
use super::metrics::{AnswerMetrics, ReadMetrics};
use super::object::AccountObject;
use super::reads::{SharedReads, Source};
use super::watch::Watch;
use crate::config::AccountRead;
use pod_identity_core::inject::ServiceAccountSettings;
use pod_identity_core::inject::Settings;

/// What RBAC has to allow, in words.
pub(super) const RULE: &str = "get, list and watch of serviceaccounts in all namespaces (a ClusterRole)";

/// The service accounts of the cluster.
#[derive(Debug)]
pub(super) struct Accounts {
    /// `None` where the watch alone is asked.
    reads: Option<Arc<SharedReads<AccountReads>>>,
    watch: Arc<Watch>,
    metrics: AnswerMetrics,
}

impl Accounts {
    pub(super) fn new(
        client: &Client,
        read: AccountRead,
        settings: &Arc<Settings>,
        reads: &ReadMetrics,
        registry: &mut Registry,
    ) -> Self {
        let source = AccountReads { client: client.clone(), settings: settings.clone() };
        let reads = match read {
            AccountRead::Fresh => Some(SharedReads::new(source, reads.of("service_account"))),
            AccountRead::Cache | AccountRead::Never => None,
        };
        let watch = Arc::new(Watch::new(client.clone(), settings.clone(), registry));
        Self { reads, watch, metrics: AnswerMetrics::register(registry) }
    }

    /// What the account says. One that there is not says nothing.
    pub(super) async fn of(
        &self,
        namespace: &Namespace,
        account: &ServiceAccount,
        peer: Option<IpAddr>,
        deadline: Instant,
    ) -> (ServiceAccountSettings, Freshness) {
        let failure = match &self.reads {
            Some(reads) => match reads.read((namespace.clone(), account.clone()), peer, deadline).await {
                Ok(found) => {
                    self.metrics.count("read");
                    return (found.as_deref().cloned().unwrap_or_default(), Freshness::Fresh);
                }
                Err(failure) => Some(failure),
            },
            None => self.watch.failure(),
        };
        match (self.watch.lookup(namespace, account), failure) {
            (Some(seen), failure) => {
                self.metrics.count("watch");
                let freshness = match failure {
                    None => Freshness::Fresh,
                    Some(failure) if self.watch.failure().is_none() => Freshness::Recent(failure),
                    Some(failure) => Freshness::FromWatch(failure),
                };
                (seen, freshness)
            }
            (None, failure) => {
                self.metrics.count("nothing");
                let failure = failure.unwrap_or(ReadFailure::NotSynced);
                (ServiceAccountSettings::default(), Freshness::Unknown(failure))
            }
        }
    }

    /// Whether the watch has seen that it says anything, or does not know now. One that says without a role that IRSA
    /// goes through the agent counts where the ConfigMap or a container has the role.
    pub(super) fn may_have_role(&self, namespace: &Namespace, account: &ServiceAccount) -> bool {
        self.watch.failure().is_some()
            || self
                .watch
                .lookup(namespace, account)
                .is_none_or(|seen| seen != ServiceAccountSettings::default())
    }

    pub(super) async fn follow(&self, readiness: Readiness, shutdown: Shutdown) {
        self.watch.follow(readiness, shutdown).await;
    }
}

/// Reads one account from the API server.
struct AccountReads {
    client: Client,
    settings: Arc<Settings>,
}

impl Source for AccountReads {
    type Key = (Namespace, ServiceAccount);
    type Found = Option<Arc<ServiceAccountSettings>>;

    /// Without a `resourceVersion`: what etcd has now, by a quorum, and not what the API server's own watch has
    /// seen (Kubernetes, *API concepts*, resource versions).
    async fn read(&self, (namespace, account): &Self::Key) -> Result<Self::Found, ReadFailure> {
        let api: Api<AccountObject> = Api::namespaced(self.client.clone(), namespace.as_str());
        let found = api.get_opt(account.as_str()).await.map_err(|error| ReadFailure::of(&error, RULE))?;
        let settings = |annotations: BTreeMap<_, _>| {
            ServiceAccountSettings::from_annotations(&annotations, &self.settings)
        };
        Ok(found.map(|object| Arc::new(settings(object.into_annotations()))))
    }
}
