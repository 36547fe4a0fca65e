//! The wiring of the whole agent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use kube::Client;
use pod_identity_core::cluster::Cluster;
use pod_identity_core::service::{BuildError, CredentialService};
use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::http::json_bytes;
use pod_identity_runtime::kubernetes::{self, ApiServer, ClientError};
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::logs::LogLimiter;
use pod_identity_runtime::metrics::HttpMetrics;
use pod_identity_runtime::outbound::OutboundError;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tasks::{self, TaskFailure};
use prometheus_client::registry::Registry;

use crate::config::{Config, ConfigError, PodsConfig, TokenKeys};
use crate::exchange::readiness::{KEYS_CONDITION, OWN_CREDENTIALS_CONDITION};
use crate::exchange::{EksAuth, EksAuthSetupError};
use crate::keys::{ClusterIssuer, KeySource, KeysInUse};
use crate::metrics::{self, CallCounter};
use crate::network::{
    AddressListeners, Addresses, BindError, FollowError, Follower, OffNode, OffNodeAction, Routes,
};
use crate::peer::LocalAddresses;
use crate::pods::{self, PAGE_PATH, Pods, Watch};
use crate::server::Server;
use crate::startup_taint::TaintRemoval;

/// Time between two checks for the issuer's keys.
const KEYS_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The agent, bound to its addresses but not serving yet.
#[derive(Debug)]
pub struct App {
    listeners: AddressListeners,
    follower: Follower,
    admin_listeners: Vec<Listener>,
    admin: Arc<Admin>,
    server: Arc<Server>,
    keys: KeysInUse,
    /// The cluster's issuer, if the API server has not named it yet.
    unnamed: Option<(ClusterIssuer, Cluster)>,
    watch: Option<Watch>,
    readiness: Readiness,
    taint: Option<TaintRemoval>,
}

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is unsafe.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The EKS Auth client cannot be created.
    #[error(transparent)]
    EksAuth(#[from] EksAuthSetupError),
    /// The client for an issuer's keys cannot be created.
    #[error("the issuer: {0}")]
    Issuer(#[from] OutboundError),
    /// No address can be bound, or another process uses one.
    #[error(transparent)]
    Address(#[from] BindError),
    /// Requests from outside the node cannot be recognised.
    #[error("--off-node refuse: {0}")]
    OffNode(FollowError),
    /// The credential service cannot be built.
    #[error(transparent)]
    Service(#[from] BuildError),
    /// There is no client of the API server.
    #[error(transparent)]
    Kubernetes(#[from] ClientError),
    /// An admin address cannot be bound.
    #[error("cannot listen: {0}")]
    Admin(std::io::Error),
}

impl App {
    /// Binds every address, so that faults show at the start.
    ///
    /// # Errors
    /// [`StartError`] with the cause.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let mut registry = Registry::default();
        let http_metrics = HttpMetrics::register(&mut registry);
        let (calls, readiness) = (CallCounter::default(), Readiness::default());
        calls.register(&mut registry);
        let eks_auth = EksAuth::new(config.eks_auth, calls, readiness.clone()).await?;
        readiness.register(&mut registry);
        readiness.awaited(OWN_CREDENTIALS_CONDITION);
        if let TokenKeys::Configured(issuers) = &config.keys {
            let names = issuers.iter().map(|one| one.issuer.as_str()).collect::<Vec<_>>().join(" or ");
            readiness.pending(KEYS_CONDITION, &format!("no keys yet of the issuer {names}"));
        }
        let client = api_client(&config.api_server, &config.pods, &config.keys).await?;
        let (issuer_outbound, source) = match &config.keys {
            TokenKeys::Learned(outbound) => (Some(outbound.clone()), KeySource::Issuer),
            TokenKeys::Configured(_) | TokenKeys::None => (None, KeySource::Flags),
        };
        let keys = KeysInUse::new(config.keys.verification()?, source);
        let cluster_issuer = match (&client, issuer_outbound) {
            (Some(client), Some(outbound)) => {
                Some(ClusterIssuer::new(client.clone(), outbound, keys.clone()))
            }
            _ => None,
        };
        let unnamed = match cluster_issuer {
            Some(issuer) => (!issuer.begin().await).then_some(issuer),
            None => None,
        };
        let watched = client.filter(|_| config.pods.watch);
        let pods = Pods::new(&config.pods, watched.clone());
        let cluster = Cluster::new(config.cluster);
        let service = CredentialService::builder(eks_auth)
            .cluster(cluster.clone(), keys.verification())
            .pods(pods.clone())
            .config(config.service)
            .clock(config.clock)
            .build()?;
        metrics::register(&service, keys.clone(), &mut registry);
        pods::register(&pods, &mut registry);
        let watch = match (watched, config.pods.node) {
            (Some(client), Some(node)) => Some(Watch::new(pods.clone(), client, node, &mut registry)),
            _ => None,
        };
        let hosts: Vec<_> = config.listen.iter().map(SocketAddr::ip).collect();
        let (routes, addresses) = (Arc::new(Routes::open()), Addresses::new(hosts.iter().copied()));
        addresses.register(&mut registry);
        let follower = match Follower::open(routes.clone(), addresses.clone()).await {
            Err(error) if config.off_node == OffNodeAction::Refuse => return Err(StartError::OffNode(error)),
            Err(_) => Follower::later(routes.clone(), addresses.clone()),
            Ok(follower) => follower,
        };
        let log_limiter = LogLimiter::default();
        let off_node = OffNode::new(config.off_node, routes.clone(), log_limiter.clone());
        off_node.register(&mut registry);
        let connections = Connections::new(config.limits.within_descriptors());
        connections.register(&mut registry);
        let listeners = AddressListeners::bind(&config.listen, &connections, &addresses).await?;
        let admin_connections = Connections::new(Limits::ADMIN);
        let mut admin_listeners = Vec::new();
        for address in config.admin {
            let listener = Listener::bind(address).await.map_err(StartError::Admin)?;
            admin_listeners.push(listener.with_connections(admin_connections.clone()));
        }
        let mut admin = Admin::new(readiness.clone(), registry);
        if watch.is_some() {
            let of_page = pods.clone();
            admin = admin.with_page(PAGE_PATH, move || json_bytes(StatusCode::OK, of_page.page().into()));
        }
        let admin = Arc::new(admin);
        let server = Arc::new(Server {
            service,
            local: LocalAddresses::new(hosts.clone(), routes),
            off_node,
            pods,
            addresses: hosts,
            metrics: http_metrics,
            log_limiter,
        });
        let taint = match config.startup_taint {
            Some(taint) => Some(TaintRemoval::new(taint).await?),
            None => None,
        };
        Ok(Self {
            listeners,
            follower,
            admin_listeners,
            admin,
            server,
            keys,
            unnamed: unnamed.map(|issuer| (issuer, cluster)),
            watch,
            readiness,
            taint,
        })
    }

    /// Returns the addresses that serve credentials.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    /// Returns the addresses of the admin endpoints.
    pub fn admin_addresses(&self) -> Vec<SocketAddr> {
        self.admin_listeners.iter().filter_map(|listener| listener.address().ok()).collect()
    }

    /// Serves until the shutdown, then drains.
    ///
    /// # Errors
    /// [`TaskFailure`] if a background task failed. The agent drains and ends, because it would serve without
    /// renewals or by old keys.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), TaskFailure> {
        tracing::info!(addresses = ?self.addresses(), "serving credentials");
        let (tasks, failures) = tasks::supervise();
        let (stop, stopping) = Shutdown::manual();
        let service = self.server.service.clone();
        tasks.spawn("renewal", stopping.clone(), async move { service.failed().await });
        let readiness = self.readiness;
        tasks.spawn_finite("keys", await_keys(self.keys, readiness.clone()));
        if let Some(taint) = self.taint {
            tasks.spawn_finite("startup taint", taint.run(readiness.clone(), stopping.clone()));
        }
        let mut leaving = stopping.clone();
        tasks.spawn("readiness", stopping.clone(), async move {
            leaving.asked().await;
            readiness.leaving("the agent is shutting down");
        });
        tasks.spawn("log limits", stopping.clone(), self.server.log_limiter.clone().follow(stopping.clone()));
        tasks.spawn("node network", stopping.clone(), self.follower.run());
        if let Some((issuer, cluster)) = self.unnamed {
            tasks.spawn_finite("issuer", issuer.follow(self.server.service.clone(), cluster));
        }
        if let Some(watch) = self.watch {
            tasks.spawn("pod watch", stopping.clone(), watch.run(self.server.service.clone()));
        }
        for listener in self.admin_listeners {
            // Health and metrics are served until the last request is done.
            let serving = listener.serve(self.admin.clone(), Shutdown::never());
            tasks.spawn("admin endpoints", Shutdown::never(), serving);
        }
        let served = self.listeners.serve(self.server.clone(), stopping.clone());
        let result = failures.serve_until(shutdown, stop, served).await;
        tasks.cancel();
        tracing::info!("stopped");
        result
    }
}

/// Makes the client of the API server, if pods are watched or keys are fetched there.
async fn api_client(
    api_server: &ApiServer,
    pods: &PodsConfig,
    keys: &TokenKeys,
) -> Result<Option<Client>, StartError> {
    let keys = matches!(keys, TokenKeys::Learned(_));
    if !pods.watch && !keys {
        return Ok(None);
    }
    match kubernetes::client(api_server, "eks-pod-identity-agent").await {
        Ok(client) => Ok(Some(client)),
        // AWS's manifests mount no token of the service account.
        Err(ClientError::NotInCluster(_)) if !pods.watch => {
            tracing::info!("no service account token is mounted: the API server's keys are not used");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits for the issuer's keys and updates readiness.
async fn await_keys(keys: KeysInUse, readiness: Readiness) {
    while !keys.verification().has_keys() {
        tokio::time::sleep(KEYS_POLL_INTERVAL).await;
    }
    readiness.met(KEYS_CONDITION);
}
