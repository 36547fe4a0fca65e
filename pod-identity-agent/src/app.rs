//! The wiring of the whole agent.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pod_identity_core::cluster::Cluster;
use pod_identity_core::service::{BuildError, CredentialService, TokenVerification};
use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::kubernetes::ClientError;
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::logs::LogLimiter;
use pod_identity_runtime::metrics::HttpMetrics;
use pod_identity_runtime::outbound::OutboundError;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tasks::{self, TaskFailure};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use crate::config::{Config, ConfigError, TokenKeys};
use crate::exchange::readiness::{KEYS_CONDITION, OWN_CREDENTIALS_CONDITION};
use crate::exchange::{EksAuth, EksAuthSetupError};
use crate::metrics::{self, CallCounter};
use crate::peer::LocalAddresses;
use crate::server::Server;
use crate::startup_taint::TaintRemoval;

/// Time between two checks for the issuer's keys.
const KEYS_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The agent, bound to its addresses but not serving yet.
#[derive(Debug)]
pub struct App {
    listeners: Vec<Listener>,
    admin_listeners: Vec<Listener>,
    admin: Arc<Admin>,
    server: Arc<Server>,
    verification: TokenVerification,
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
    #[error(
        "cannot serve credentials on {0}. Add the address to this node (ip address add 169.254.170.23/32 \
         dev lo), free its port, or name others with --bind-hosts"
    )]
    NoAddress(String),
    /// The credential service cannot be built.
    #[error(transparent)]
    Service(#[from] BuildError),
    /// There is no client of the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
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
        let verification = config.keys.verification()?;
        let service = CredentialService::builder(eks_auth)
            .cluster(Cluster::new(config.cluster), verification.clone())
            .config(config.service)
            .clock(config.clock)
            .build()?;
        metrics::register(&service, verification.clone(), &mut registry);
        let local = LocalAddresses::probe(config.listen.iter().map(SocketAddr::ip).collect());
        let connections = Connections::new(config.limits.within_descriptors());
        connections.register(&mut registry);
        let listeners = bind_all(&config.listen, &connections).await?;
        let admin_connections = Connections::new(Limits::ADMIN);
        let mut admin_listeners = Vec::new();
        for address in config.admin {
            let listener = Listener::bind(address).await.map_err(StartError::Admin)?;
            admin_listeners.push(listener.with_connections(admin_connections.clone()));
        }
        let addresses =
            listeners.iter().filter_map(|listener| listener.address().ok()).map(|a| a.ip()).collect();
        let admin = Arc::new(Admin::new(readiness.clone(), registry));
        let server = Arc::new(Server {
            service,
            local,
            addresses,
            metrics: http_metrics,
            log_limiter: LogLimiter::default(),
        });
        let taint = match config.startup_taint {
            Some(taint) => Some(TaintRemoval::new(taint).await?),
            None => None,
        };
        Ok(Self { listeners, admin_listeners, admin, server, verification, readiness, taint })
    }

    /// Returns the addresses that serve credentials.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.address().ok()).collect()
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
        tasks.spawn_finite("keys", await_keys(self.verification, readiness.clone()));
        if let Some(taint) = self.taint {
            tasks.spawn_finite("startup taint", taint.run(readiness.clone(), stopping.clone()));
        }
        let mut leaving = stopping.clone();
        tasks.spawn("readiness", stopping.clone(), async move {
            leaving.asked().await;
            readiness.leaving("the agent is shutting down");
        });
        tasks.spawn("log limits", stopping.clone(), self.server.log_limiter.clone().follow(stopping.clone()));
        for listener in self.admin_listeners {
            // Health and metrics are served until the last request is done.
            let serving = listener.serve(self.admin.clone(), Shutdown::never());
            tasks.spawn("admin endpoints", Shutdown::never(), serving);
        }
        let mut serving = JoinSet::new();
        for listener in self.listeners {
            serving.spawn(listener.serve(self.server.clone(), stopping.clone()));
        }
        let served = async move {
            serving.join_all().await;
        };
        let result = failures.serve_until(shutdown, stop, served).await;
        tasks.cancel();
        tracing::info!("stopped");
        result
    }
}

/// Waits for the issuer's keys and updates readiness.
async fn await_keys(verification: TokenVerification, readiness: Readiness) {
    while !verification.has_keys() {
        tokio::time::sleep(KEYS_POLL_INTERVAL).await;
    }
    readiness.met(KEYS_CONDITION);
}

/// Binds the addresses that this node has. A node without IPv6 serves on its IPv4 address only.
async fn bind_all(addresses: &[SocketAddr], connections: &Connections) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    let mut failures = Vec::new();
    for address in addresses {
        match Listener::bind(*address).await {
            Ok(listener) => listeners.push(listener.with_connections(connections.clone())),
            // Pods would send their tokens to the process that uses the address, so a warning is not enough.
            Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
                return Err(StartError::NoAddress(error.to_string()));
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    if listeners.is_empty() {
        return Err(StartError::NoAddress(failures.join("; ")));
    }
    for error in failures {
        tracing::warn!(error, "address not bound; no credentials are served on it");
    }
    Ok(listeners)
}
