//! Settings of a service.

use std::time::Duration;

use super::limit::UpstreamLimits;
use crate::identity::ClusterName;

/// Durations and limits of a service. Every field has a default.
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
    /// Maximum number of pods with cached credentials; default 2,000, as in AWS's agent. Beyond it, each new pod
    /// evicts one of the least recently served pods. With 0, each request is an upstream call.
    pub capacity: usize,
    /// Time before the expiry at which credentials are no longer served; default 15 s.
    pub margin: Duration,
    /// Percentage of their lifetime for which credentials are fresh. Fresh credentials are served without an upstream
    /// call. Default 100: they are fresh until [`margin`](Self::margin). With less, a request for stale credentials
    /// calls the upstream, and gets the stale ones while the upstream is down. Use less if callers cache credentials
    /// themselves and renew them with a request.
    pub fresh_percent: u8,
    /// Whether credentials are renewed at about half of their lifetime while their pod uses them; default true.
    pub renew: bool,
    /// Maximum time of a request; default 4.5 s, a little less than the timeout of SDKs. The upstream call goes on.
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
    /// Minimum time between two fetches for unknown keys; default 30 s. Any client can invent key ids.
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

/// Error of [`Builder::build`](super::Builder::build).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The service has no cluster. A service with an association lookup may get its clusters later, by
    /// [`set_clusters`](super::CredentialService::set_clusters).
    #[error("the service has no cluster: call Builder::cluster")]
    NoCluster,
    /// Two clusters have the same name.
    #[error("the cluster {0} was added twice")]
    ClusterTwice(ClusterName),
    /// Several clusters need issuers, which tell their tokens apart.
    #[error(
        "the cluster {0} has no issuer, but the service has other clusters: give each cluster an Issuer, because a \
         token names its cluster by its issuer only"
    )]
    ClusterWithoutIssuer(ClusterName),
    /// Associations are looked up only for pods whose tokens keys have verified.
    #[error(
        "the cluster {0} has no issuer, but associations are looked up for verified pods only: give the cluster an \
         Issuer, or leave the associations out"
    )]
    AssociationsWithoutKeys(ClusterName),
    /// The service needs a tokio runtime.
    #[error("no tokio runtime is running: build the service in an async function of tokio")]
    NoRuntime,
}
