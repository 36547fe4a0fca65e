//! Settings of a service.

use std::time::Duration;

use super::limit::UpstreamLimits;
use crate::identity::ClusterName;

/// Every duration and limit of a service. The fields have defaults; change those that you need.
///
/// ```
/// use std::time::Duration;
///
/// use pod_identity_core::service::ServiceConfig;
///
/// let mut config = ServiceConfig::default();
/// config.capacity = 500;
/// config.request_deadline = Duration::from_secs(2);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// Maximum number of pods with cached credentials; default 2,000, as AWS's agent. Beyond it, each new pod
    /// evicts one of the pods that were served longest ago. With 0, each request is an upstream call.
    pub capacity: usize,
    /// Time before their expiry at which credentials are no longer served; default 15 s.
    pub margin: Duration,
    /// Percentage of their life for which credentials are fresh, that is, served without an upstream call; default
    /// 100: they are fresh until [`margin`](Self::margin). With less, older credentials are stale: a request calls the
    /// upstream, and gets the stale ones while the upstream is down. Use less if callers renew by asking again.
    pub fresh_percent: u8,
    /// Whether credentials are renewed at about half of their life while their pod uses them; default true.
    pub renew: bool,
    /// Maximum time of a request; default 4.5 s, a little less than SDKs wait. The upstream call goes on.
    pub request_deadline: Duration,
    /// Time after which a request gets stale credentials, if there are any; default 1.5 s, because the SDK for
    /// Python waits for 2 s (botocore, `utils.py`, `ContainerMetadataFetcher`).
    pub stale_after: Duration,
    /// Maximum time of all attempts of an upstream call; default 10 s.
    pub fetch_deadline: Duration,
    /// Maximum number of attempts of an upstream call; default 3.
    pub attempts: u32,
    /// Time between two fetches of an issuer's keys; default 5 minutes.
    pub key_refresh: Duration,
    /// Minimum time between two fetches for unknown keys, which anybody can invent; default 30 s.
    pub key_refetch: Duration,
    /// Limits of upstream calls.
    pub limits: UpstreamLimits,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            capacity: 2000,
            margin: Duration::from_secs(15),
            fresh_percent: 100,
            renew: true,
            request_deadline: Duration::from_millis(4500),
            stale_after: Duration::from_millis(1500),
            fetch_deadline: Duration::from_secs(10),
            attempts: 3,
            key_refresh: Duration::from_secs(300),
            key_refetch: Duration::from_secs(30),
            limits: UpstreamLimits::default(),
        }
    }
}

/// Why a service cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The service has no cluster. One with an association lookup may get its clusters later, by
    /// [`set_clusters`](super::CredentialService::set_clusters).
    #[error("the service has no cluster: call Builder::cluster")]
    NoCluster,
    /// Two clusters have the same name.
    #[error("the cluster {0} is given twice")]
    ClusterTwice(ClusterName),
    /// Several clusters are told apart by the issuers of their tokens.
    #[error(
        "the cluster {0} has no issuer, but the service has other clusters: give each cluster an Issuer, because a \
         token names its cluster by its issuer only"
    )]
    ClusterWithoutIssuer(ClusterName),
    /// An association is looked up for a verified pod only.
    #[error(
        "the cluster {0} has no issuer, but associations are looked up for verified pods only: give the cluster an \
         Issuer, or leave the associations out"
    )]
    AssociationsWithoutKeys(ClusterName),
    /// The service needs a tokio runtime.
    #[error("no tokio runtime is running: build the service in an async function of tokio")]
    NoRuntime,
}
