//! The whole service, wired top-down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::clock;
use pod_identity_runtime::files::FileMetrics;
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::metrics::HttpMetrics;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tasks::{self, Failures, TaskFailure, Tasks};
use pod_identity_runtime::tls::{ServerTls, TlsError, TlsVersion};
use prometheus_client::registry::Registry;

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
    tasks: Tasks,
    failures: Failures,
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
        readiness.register(&mut registry);
        readiness.pending(KEYS_CONDITION, "no issuer's keys yet");
        readiness.pending(STS_CONDITION, "STS has not answered yet");
        let metrics = HttpMetrics::register(&mut registry);
        let files = FileMetrics::register(&mut registry);
        let sts = Arc::new(Sts::new(sts, readiness.clone(), &mut registry));
        let sessions = Sessions::new(
            sts.clone(),
            config.session_naming,
            config.session_cache,
            readiness.clone(),
            &mut registry,
        );
        let agent_auth =
            config.agent_auth.map(|auth| AgentAuth::new(auth, &files)).transpose()?.map(Arc::new);
        if agent_auth.is_none() {
            tracing::warn!("no --agent-auth: every program on this machine may exchange tokens");
        }
        let (tasks, failures) = tasks::supervise();
        let tls = config.tls.map(|pair| ServerTls::read(pair, TlsVersion::default())).transpose()?;
        let tls = tls.map(|tls| tls.counted(&files));
        let store = Store::open(config.associations, config.cluster, config.outbound, &files, tasks.clone())?;
        let store = Arc::new(store);
        store.register(&mut registry);
        warn_of_large_sessions(&store.snapshot().associations);

        let connections = Connections::new(config.limits.within_descriptors());
        connections.register(&mut registry);
        let listener = Listener::bind(config.listen).await?.with_connections(connections);
        let listener = match &tls {
            Some(tls) => listener.with_tls(tls.clone()),
            None => listener,
        };
        let admin = match config.admin {
            Some(address) => {
                let admin = Admin::new(readiness.clone(), registry);
                let listener = Listener::bind(address).await?;
                Some((listener.with_connections(Connections::new(Limits::ADMIN)), Arc::new(admin)))
            }
            None => None,
        };
        let server =
            Arc::new(Server { store, sessions, agent_auth, metrics, audit_failure: config.audit_failure });
        Ok(Self { listener, admin, tls, server, sts, readiness, tasks, failures })
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
    ///
    /// # Errors
    /// [`TaskFailure`] if a background task failed. The service drains and ends, because it would issue credentials
    /// by old associations or old keys.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), TaskFailure> {
        if let Ok(address) = self.listener.address() {
            tracing::info!(%address, tls = self.tls.is_some(), "serving EKS Auth");
        }
        let Self { listener, admin, tls, server, sts, readiness, tasks, failures } = self;
        let (stop, stopping) = Shutdown::manual();
        let spawn = |name, task: BoxFuture| tasks.spawn(name, stopping.clone(), task);
        let (store, sessions) = (server.store.clone(), server.sessions.clone());
        tasks.spawn_finite("STS identity", {
            let (sts, snapshot, stopping) = (sts.clone(), store.snapshot(), stopping.clone());
            async move { sts.identify(snapshot, stopping).await }
        });
        spawn("key readiness", Box::pin(watch_keys(store.clone(), readiness, stopping.clone())));
        spawn("session sweep", Box::pin(sessions.clone().sweep(store.clone(), stopping.clone())));
        spawn(
            "associations",
            Box::pin(store.follow(stopping.clone(), move |snapshot| {
                sessions.keep_those_of(&snapshot.associations);
                warn_of_large_sessions(&snapshot.associations);
                sts.warn_of_long_sessions(snapshot);
            })),
        );
        if let Some(tls) = tls {
            spawn("TLS certificate", Box::pin(tls.follow(stopping.clone())));
        }
        if let Some(AgentAuth::SigV4(_)) = server.agent_auth.as_deref() {
            let (server, stopping) = (server.clone(), stopping.clone());
            spawn(
                "agent keys",
                Box::pin(async move {
                    if let Some(AgentAuth::SigV4(keys)) = server.agent_auth.as_deref() {
                        keys.follow(stopping).await;
                    }
                }),
            );
        }
        // Health and metrics answer until the last request is done.
        if let Some((listener, admin)) = admin {
            tasks.spawn("admin endpoints", Shutdown::never(), listener.serve(admin, Shutdown::never()));
        }
        let result = failures.serve_until(shutdown, stop, listener.serve(server, stopping.clone())).await;
        tasks.cancel();
        tracing::info!("stopped");
        result
    }
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Time that a start waits for the keys of every issuer: one fetch, which may take 10 s, and another. After that the
/// keys of one issuer are enough. Otherwise an issuer that is down for long would keep every new replica unready.
const KEYS_PATIENCE: Duration = Duration::from_secs(15);

/// Whether a start still waits for keys.
fn waits_for_keys(missing: usize, issuers: usize, waited: Duration) -> bool {
    missing > 0 && (missing == issuers || waited < KEYS_PATIENCE)
}

/// Keeps the condition `issuer_keys` up to date, until the shutdown.
async fn watch_keys(store: Arc<Store>, readiness: Readiness, mut shutdown: Shutdown) {
    let (start, mut reported) = (clock::monotonic(), Vec::new());
    loop {
        let snapshot = store.snapshot();
        let missing = snapshot.without_keys();
        let reason = || format!("no keys yet of {}", missing.join(", "));
        let waits = waits_for_keys(missing.len(), snapshot.issuers(), start.elapsed());
        match readiness.missing().is_empty() {
            true if missing.is_empty() => readiness.met(KEYS_CONDITION),
            true => readiness.unmet(KEYS_CONDITION, reason()),
            false if waits => readiness.pending(KEYS_CONDITION, &reason()),
            false => readiness.met(KEYS_CONDITION),
        }
        reported.retain(|issuer| missing.contains(issuer));
        for issuer in missing.iter().filter(|_| !waits) {
            if !reported.contains(issuer) {
                tracing::warn!(%issuer, "no keys yet: tokens of this issuer are refused until they are fetched");
                reported.push(issuer.clone());
            }
        }
        let pause = Duration::from_millis(if missing.is_empty() { 5000 } else { 200 });
        drop(snapshot);
        tokio::select! {
            () = shutdown.asked() => return readiness.leaving("the service is ending"),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_waits_for_all_keys_for_a_while_and_for_some_as_long_as_it_takes() {
        let (soon, late) = (Duration::from_secs(1), Duration::from_secs(3600));
        assert!(!waits_for_keys(0, 2, soon));
        assert!(waits_for_keys(1, 2, soon));
        assert!(!waits_for_keys(1, 2, late), "one issuer that is away keeps no replica unready");
        assert!(waits_for_keys(2, 2, late));
        assert!(!waits_for_keys(0, 0, soon), "no cluster, no keys");
    }
}
