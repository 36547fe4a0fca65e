//! The credential service: it verifies tokens, caches credentials, and renews them ahead of their expiry.
//!
//! [`CredentialService`] exchanges pod tokens for credentials. An embedder implements [`CredentialSource`], which
//! issues credentials, and optionally [`AssociationLookup`], which finds the role of a service account.
//! `pod-identity-agent` and `pod-identity-auth` use the same service.
//!
//! ```text
//! token ─► known? ─► verification ─► association ─► cache ─► single flight ─► CredentialSource
//! ```
//!
//! The rules are a state machine without clock and tasks. This module owns deadlines, renewals, sweeps and key
//! fetches. It stops when the last clone of the service is dropped. It logs with `tracing`.
//!
//! # Outages and renewal
//!
//! - Credentials are cached for each pod, because session tags and audit lines name the pod. A hundred pods of one
//!   service account are a hundred upstream calls.
//! - At about half of their lifetime they are renewed in the background, while their pod uses them.
//! - If the upstream fails, cached credentials are served until [`ServiceConfig::margin`] before their expiry. The
//!   call is repeated up to [`ServiceConfig::attempts`] times. A pod without cached credentials gets a 503 with
//!   `Retry-After`.
//! - A changed role drops the cached credentials, also during an outage. The pod then gets a 503, never credentials of
//!   the old role.
//! - The keys of an issuer are fetched in the background from [`Builder::build`] on, which does not wait for them.
//!   Until the first fetch succeeds, requests get a 503 with
//!   [`TokenKeyUnknown`](crate::error::ErrorCode::TokenKeyUnknown). Failed fetches are logged as errors and repeated
//!   every 2 s. Use [`TokenVerification::has_keys`] for readiness.
//!
//! # HTTP
//!
//! Pass the unchanged value of the `Authorization` header, which is the token alone. For a missing header pass an
//! empty text. Send the JSON with the content type `application/json`, and an error with its status, headers and body.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use pod_identity_core::cluster::Cluster;
//! use pod_identity_core::credentials::SessionCredentials;
//! use pod_identity_core::service::*;
//!
//! struct Vault;
//!
//! impl CredentialSource for Vault {
//!     fn issue<'a>(&'a self, _: &'a CredentialRequest) -> IssueFuture<'a> {
//!         let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
//!         Box::pin(async move { Ok(SessionCredentials::new("ASIAEXAMPLE", "secret", "token", in_an_hour)) })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let issuer = Issuer::file("https://oidc.example.com/demo", "/etc/pod-identity/jwks.json");
//! let service = CredentialService::builder(Vault).cluster(Cluster::new("demo".parse()?), issuer).build()?;
//!
//! let peer: Peer = "192.0.2.7".parse::<std::net::IpAddr>()?.into(); // or from a `SocketAddr`
//! let (status, headers, body) = match service.credentials("not.a.token", peer).await {
//!     Ok(credentials) => (200, vec![], credentials.container_json().to_vec()),
//!     Err(error) => (error.status(), error.headers(), error.body()),
//! };
//! assert_eq!((status, headers[0].0), (400, "content-type"));
//! assert!(body.starts_with(br#"{"code":"token_malformed""#));
//! # Ok(())
//! # }
//! ```

mod builder;
mod config;
mod credentials;
mod error;
mod issuer;
mod key;
mod limit;
mod pod;
mod renewal;
mod serve;
mod source;
mod upstream;
mod verification;

#[doc(hidden)]
pub use crate::clock::{Clock, ClockControl};
pub use builder::Builder;
pub use config::{BuildError, ServiceConfig};
pub use credentials::{Credentials, Origin};
pub use error::CredentialError;
pub use issuer::Issuer;
pub use limit::{Peer, PeerLimits, UpstreamLimits};
pub use pod::{AuthorizedPod, VerifiedPod};
pub use source::{
    AssociationLookup, BoxFuture, CredentialRequest, CredentialSource, IssueFuture, LookupFuture, PodCheck,
};
pub use upstream::Statistics;
pub use verification::TokenVerification;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::credentials::Cached;
use self::key::SessionKey;
use self::upstream::Upstream;
use self::verification::Clusters;
use crate::cache::CredentialCache;
use crate::cluster::Cluster;
use crate::identity::{Namespace, ServiceAccount, WorkloadIdentity};
use crate::sync::{AtomicU64, Mutex, lock};

/// Exchanges pod tokens for credentials. Clones share one service. Dropping the last clone stops it.
///
/// See the [module](self) for an example.
#[derive(Clone)]
pub struct CredentialService(Arc<Handle>);

/// A service and its tasks. Dropping it aborts them.
struct Handle {
    inner: Arc<Inner>,
    tasks: Mutex<JoinSet<()>>,
    /// The runtime of the tasks. A request may run on another runtime, which may end earlier.
    runtime: tokio::runtime::Handle,
    /// Closed when the renewal task has ended.
    running: watch::Receiver<()>,
}

struct Inner {
    config: ServiceConfig,
    clock: Clock,
    source: Box<dyn CredentialSource>,
    lookup: Option<Box<dyn AssociationLookup>>,
    pods: Option<Box<dyn PodCheck>>,
    clusters: ArcSwap<Clusters>,
    cache: CredentialCache<SessionKey, Cached, CredentialError>,
    upstream: Upstream,
    /// Number of changes of keys and clusters.
    changes: Arc<AtomicU64>,
    /// The number of changes at the time when known tokens were last forgotten.
    forgotten_at: AtomicU64,
    /// Number of calls of [`CredentialService::invalidate`].
    invalidations: AtomicU64,
}

impl CredentialService {
    /// Replaces the clusters while the service runs. Keep a clone of each [`Issuer`] and pass it again, so that it
    /// keeps its keys. Credentials of removed and changed clusters are dropped.
    ///
    /// If a name moves to another cluster, replace the clusters before the lookup returns the associations of the new
    /// cluster. A request that began before the replacement is then verified again.
    ///
    /// # Errors
    /// [`BuildError`]. The old clusters stay.
    pub fn set_clusters(
        &self,
        clusters: impl IntoIterator<Item = (Cluster, TokenVerification)>,
    ) -> Result<(), BuildError> {
        let inner = &self.0.inner;
        let clusters = Arc::new(Clusters::new(clusters.into_iter().collect(), inner.lookup.is_some())?);
        let entered = self.0.runtime.enter();
        clusters.start(&inner.clock, &inner.config, &inner.changes);
        drop(entered);
        inner.clusters.store(clusters.clone());
        inner.changes.fetch_add(1, Ordering::AcqRel);
        inner.cache.retain(|key| clusters.find(key.cluster()).is_some());
        Ok(())
    }

    /// Drops the credentials of a service account in all clusters. The next request of each of its pods is an upstream
    /// call. Call it for each change that a store reports, and to revoke a role.
    pub fn invalidate(&self, namespace: &Namespace, service_account: &ServiceAccount) {
        // Incremented first, so that the response to a token that the upstream is verifying now is not cached either.
        self.0.inner.invalidations.fetch_add(1, Ordering::AcqRel);
        self.0.inner.cache.retain(|key| {
            let identity = key.identity();
            (&identity.namespace, &identity.service_account) != (namespace, service_account)
        });
    }

    /// Drops the credentials of each pod for which `keep` returns false. The next request of such a pod is
    /// [checked](PodCheck) again.
    pub fn retain_pods(&self, keep: impl Fn(&WorkloadIdentity) -> bool) {
        // Incremented first, as in `invalidate`.
        self.0.inner.invalidations.fetch_add(1, Ordering::AcqRel);
        self.0.inner.cache.retain(|key| keep(key.identity()));
    }

    /// Looks up the association of each cached pod, and drops the credentials of pods whose association changed or was
    /// removed. Requests do that, too. This call also clears secrets that no request can get any more. It makes one
    /// lookup for each cached pod. If the lookup fails, the credentials stay.
    pub async fn recheck_associations(&self) {
        let inner = &self.0.inner;
        for key in inner.cache.identities() {
            let _ = inner.in_time(inner.current(key)).await;
        }
    }

    /// Returns counters and gauges for metrics.
    pub fn statistics(&self) -> Statistics {
        self.0.inner.upstream.statistics(self.0.inner.cache.len())
    }

    /// Waits until renewals stop while the service is in use, which only a bug can cause. A program should then exit
    /// and be restarted.
    pub async fn failed(&self) {
        let mut running = self.0.running.clone();
        while running.changed().await.is_ok() {}
    }
}

impl Handle {
    /// Starts a task that ends with the service.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        reap(&mut tasks);
        tasks.spawn_on(task, &self.runtime);
    }

    fn reap(&self) {
        reap(&mut lock(&self.tasks));
    }
}

/// Removes ended tasks, and logs those that panicked.
fn reap(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.try_join_next() {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the credential service panicked");
        }
    }
}

impl fmt::Debug for CredentialService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { config, clusters, .. } = &*self.0.inner;
        f.debug_struct("CredentialService")
            .field("config", config)
            .field("clusters", &clusters.load())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::SessionCredentials;

    struct FailingSource;

    impl CredentialSource for FailingSource {
        fn issue<'a>(
            &'a self,
            _: &'a CredentialRequest,
        ) -> BoxFuture<'a, Result<SessionCredentials, CredentialError>> {
            Box::pin(async { Err(CredentialError::unavailable("the source fails")) })
        }
    }

    fn service() -> CredentialService {
        let (_, clock) = Clock::manual(std::time::UNIX_EPOCH);
        let builder = CredentialService::builder(FailingSource).clock(clock);
        builder.cluster(Cluster::new("demo".parse().unwrap()), TokenVerification::upstream()).build().unwrap()
    }

    #[tokio::test]
    async fn removes_ended_tasks_without_a_tick() {
        let service = service();
        for _ in 0..1000 {
            service.0.spawn(async {});
            tokio::task::yield_now().await;
        }
        assert!(lock(&service.0.tasks).len() < 10, "{}", lock(&service.0.tasks).len());
    }

    #[tokio::test(start_paused = true)]
    async fn failed_returns_when_renewals_end() {
        let service = service();
        let second = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(second, service.failed()).await.is_err());
        lock(&service.0.tasks).abort_all();
        assert!(tokio::time::timeout(second, service.failed()).await.is_ok());
    }
}
