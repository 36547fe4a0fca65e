//! The whole daemon, wired top-down.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::logs::LogLimiter;
use pod_identity_runtime::metrics::HttpMetrics;
use pod_identity_runtime::outbound::OutboundError;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tasks::{self, TaskFailure};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use crate::broker::{Broker, LocalAddresses};
use crate::config::{Config, ConfigError, TokenKeys};
use crate::exchange::{EksAuth, EksAuthSetupError};
use crate::judge::Judge;
use crate::readiness::{KEYS_CONDITION, OWN_CREDENTIALS_CONDITION};
use crate::server::Server;

/// The daemon, bound to its addresses but not serving yet.
#[derive(Debug)]
pub struct App {
    listeners: Vec<Listener>,
    admin_listeners: Vec<Listener>,
    admin: Arc<Admin>,
    server: Arc<Server>,
    broker: Arc<Broker>,
    judge: Judge,
    readiness: Readiness,
}

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration would not be safe.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// EKS Auth cannot be asked.
    #[error(transparent)]
    EksAuth(#[from] EksAuthSetupError),
    /// The issuer cannot be asked.
    #[error("the issuer: {0}")]
    Issuer(#[from] OutboundError),
    /// No address can be bound.
    #[error(
        "cannot serve credentials on {0}. Add the address to this node (ip address add 169.254.170.23/32 \
         dev lo), free its port, or name others with --bind-hosts"
    )]
    NoAddress(String),
    /// An admin address cannot be bound.
    #[error("cannot listen: {0}")]
    Admin(std::io::Error),
}

impl App {
    /// Binds every address, so that what is wrong is said at the start.
    ///
    /// # Errors
    /// [`StartError`] with the cause.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let eks_auth = EksAuth::new(config.cluster, config.eks_auth).await?;
        let readiness = Readiness::default();
        readiness.register(&mut registry);
        readiness.awaited(OWN_CREDENTIALS_CONDITION);
        if let TokenKeys::Configured(issuers) = &config.keys {
            let names = issuers.iter().map(|one| one.issuer.as_str()).collect::<Vec<_>>().join(" or ");
            readiness.pending(KEYS_CONDITION, &format!("no keys yet of the issuer {names}"));
        }
        let judge = Judge::new(config.keys, config.clock.clone())?;
        judge.register(&mut registry);
        let broker = Arc::new(Broker::new(
            config.cache,
            config.budgets,
            LocalAddresses::probe(config.listen.iter().map(SocketAddr::ip).collect()),
            eks_auth,
            judge.clone(),
            readiness.clone(),
            config.clock,
        ));
        broker.register(&mut registry);
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
            broker: broker.clone(),
            addresses,
            metrics,
            log_limiter: LogLimiter::default(),
        });
        Ok(Self { listeners, admin_listeners, admin, server, broker, judge, readiness })
    }

    /// The addresses that credentials are served on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.address().ok()).collect()
    }

    /// The addresses of the admin endpoints.
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
        tasks.spawn("renewal", stopping.clone(), self.broker.renew(stopping.clone()));
        tasks.spawn("keys", stopping.clone(), self.judge.follow(self.readiness, stopping.clone()));
        tasks.spawn("log limits", stopping.clone(), self.server.log_limiter.clone().follow(stopping.clone()));
        for listener in self.admin_listeners {
            // Health and metrics answer until the last request is done.
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

/// Binds what this node has: one without IPv6 serves on its IPv4 address.
async fn bind_all(addresses: &[SocketAddr], connections: &Connections) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    let mut failures = Vec::new();
    for address in addresses {
        match Listener::bind(*address).await {
            Ok(listener) => listeners.push(listener.with_connections(connections.clone())),
            // Somebody else there would be sent the pods' tokens: that must not go by with a warning.
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
        tracing::warn!(error, "credentials are not served on this address");
    }
    Ok(listeners)
}
