//! The whole service, wired top-down.

use std::net::SocketAddr;
use std::sync::Arc;

use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::listener::Listener;
use pod_identity_runtime::metrics::HttpMetrics;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::{ServerTls, TlsError, TlsVersion};
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use crate::config::{Config, ConfigError};
use crate::server::{AgentAuth, KeysError, Server};
use crate::sessions::{Sessions, warn_of_large_sessions};
use crate::store::{Store, StoreError};
use crate::sts::{STS_CONDITION, Sts};

/// The readiness condition that the clusters' keys are there.
const KEYS_CONDITION: &str = "issuer_keys";

/// The service, bound to its addresses but not serving yet.
#[derive(Debug)]
pub struct App {
    listener: Listener,
    admin: Option<(Listener, Arc<Admin>)>,
    tls: Option<ServerTls>,
    server: Arc<Server>,
    sts: Arc<Sts>,
    readiness: Readiness,
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration would not be safe.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Clusters and associations cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agents' keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The certificate cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be bound.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}

impl App {
    /// Reads every file and binds every address, so that what is wrong is said at the start.
    ///
    /// # Errors
    /// [`StartError`] with the cause.
    pub async fn bind(config: Config, sts: aws_sdk_sts::Client) -> Result<Self, StartError> {
        config.check()?;
        let mut registry = Registry::default();
        let readiness = Readiness::default();
        readiness.pending(KEYS_CONDITION, "no issuer's keys yet");
        readiness.pending(STS_CONDITION, "STS has not said yet who this service is");
        let metrics = HttpMetrics::register(&mut registry);
        let sts = Arc::new(Sts::new(sts, &mut registry));
        let sessions = Sessions::new(
            sts.clone(),
            config.session_naming,
            config.session_cache,
            readiness.clone(),
            &mut registry,
        );
        let agent_auth = config.agent_auth.map(AgentAuth::new).transpose()?.map(Arc::new);
        if agent_auth.is_none() {
            tracing::warn!("no --agent-auth: every program on this machine may exchange tokens");
        }
        let tls = config.tls.map(|files| ServerTls::read(files, TlsVersion::default())).transpose()?;
        let store = Arc::new(Store::open(config.associations, config.cluster, config.outbound)?);
        warn_of_large_sessions(&store.snapshot().associations);

        let listener = Listener::bind(config.listen).await?;
        let listener = match &tls {
            Some(tls) => listener.with_tls(tls.clone()),
            None => listener,
        };
        let admin = match config.admin {
            Some(address) => {
                let admin = Admin::new(readiness.clone(), registry);
                Some((Listener::bind(address).await?, Arc::new(admin)))
            }
            None => None,
        };
        let server = Arc::new(Server { store, sessions, agent_auth, metrics });
        Ok(Self { listener, admin, tls, server, sts, readiness })
    }

    /// The address that EKS Auth is served on.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.address()
    }

    /// The address of the admin endpoints, where there are any.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|(listener, _)| listener.address().ok())
    }

    /// Serves until the shutdown, then drains.
    pub async fn run(self, shutdown: Shutdown) {
        if let Ok(address) = self.listener.address() {
            tracing::info!(%address, tls = self.tls.is_some(), "serving EKS Auth");
        }
        let mut tasks = JoinSet::new();
        let (store, server, readiness) = (self.server.store.clone(), self.server.clone(), self.readiness);
        let (sts, sessions) = (self.sts, server.sessions.clone());
        tasks.spawn({
            let (sts, snapshot, readiness, shutdown) =
                (sts.clone(), store.snapshot(), readiness.clone(), shutdown.clone());
            async move { sts.identify(snapshot, readiness, shutdown).await }
        });
        tasks.spawn(watch_keys(store.clone(), readiness, shutdown.clone()));
        tasks.spawn(sessions.clone().sweep(store.clone(), shutdown.clone()));
        tasks.spawn(store.follow(shutdown.clone(), move |snapshot| {
            sessions.keep_those_of(&snapshot.associations);
            warn_of_large_sessions(&snapshot.associations);
            sts.warn_of_long_sessions(snapshot);
        }));
        if let Some(tls) = self.tls {
            tasks.spawn(tls.follow(shutdown.clone()));
        }
        tasks.spawn({
            let (server, shutdown) = (server.clone(), shutdown.clone());
            async move {
                if let Some(AgentAuth::SigV4(keys)) = server.agent_auth.as_deref() {
                    keys.follow(shutdown).await;
                }
            }
        });
        // Health and metrics answer until the last request is done.
        if let Some((listener, admin)) = self.admin {
            tasks.spawn(listener.serve(admin, Shutdown::never()));
        }
        self.listener.serve(server, shutdown).await;
        tasks.shutdown().await;
        tracing::info!("stopped");
    }
}

/// Keeps the readiness of the clusters' keys up to date.
async fn watch_keys(store: Arc<Store>, readiness: Readiness, mut shutdown: Shutdown) {
    loop {
        let snapshot = store.snapshot();
        let missing = snapshot.without_keys();
        match missing.first() {
            None => readiness.met(KEYS_CONDITION),
            Some(cluster) => {
                readiness.unmet(KEYS_CONDITION, format!("no keys yet of the issuer of cluster {cluster}"));
            }
        }
        let pause = std::time::Duration::from_millis(if missing.is_empty() { 5000 } else { 200 });
        drop(missing);
        tokio::select! {
            () = shutdown.asked() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
