//! The wiring of the whole service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pod_identity_core::service::{BoxFuture, BuildError, CredentialService};
use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::clock;
use pod_identity_runtime::files::FileMetrics;
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::metrics::HttpMetrics;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tasks::{self, Failures, TaskFailure, Tasks};
use prometheus_client::registry::Registry;

use crate::certificate::{CertificateError, TlsCertificate};
use crate::config::{Config, ConfigError};
use crate::server::{AgentAuthenticator, AgentKeysError, Server};
use crate::sessions::{SessionMetrics, StsSource, warn_of_large_sessions};
use crate::store::{AssociationStore, StoreError};
use crate::sts::{STS_CONDITION, StsClient};

/// The readiness condition that the keys of the clusters' issuers were fetched.
const KEYS_CONDITION: &str = "issuer_keys";

/// The service, bound to its addresses but not serving yet.
#[derive(Debug)]
pub struct App {
    listener: Listener,
    admin: Option<(Listener, Arc<Admin>)>,
    certificate: Option<TlsCertificate>,
    server: Arc<Server>,
    sts: Arc<StsClient>,
    readiness: Readiness,
    tasks: Tasks,
    failures: Failures,
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is unsafe.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The association file cannot be used.
    #[error(transparent)]
    AssociationStore(#[from] StoreError),
    /// The file of agents' keys cannot be used.
    #[error(transparent)]
    Keys(#[from] AgentKeysError),
    /// The settings of the credential service contradict each other.
    #[error(transparent)]
    Service(#[from] BuildError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An address cannot be bound.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}

impl App {
    /// Reads every file and binds every address, so that faults show at the start.
    ///
    /// # Errors
    /// [`StartError`] with the cause.
    pub async fn bind(config: Config, sts: aws_sdk_sts::Client) -> Result<Self, StartError> {
        config.check()?;
        let mut registry = Registry::default();
        let readiness = Readiness::default();
        readiness.register(&mut registry);
        readiness.pending(KEYS_CONDITION, "no issuer has keys yet");
        readiness.pending(STS_CONDITION, "STS has not answered yet");
        let metrics = HttpMetrics::register(&mut registry);
        let files = FileMetrics::register(&mut registry);
        let sts = Arc::new(StsClient::new(sts, readiness.clone(), &mut registry));
        let agents =
            config.agent_auth.map(|auth| AgentAuthenticator::new(auth, &files)).transpose()?.map(Arc::new);
        if agents.is_none() {
            tracing::warn!("no --agent-auth: every program on this machine can exchange tokens");
        }
        let (tasks, failures) = tasks::supervise();
        let certificate = match config.tls {
            Some(certificate) => {
                Some(TlsCertificate::open(certificate, &files, &readiness, &mut registry).await?)
            }
            None => None,
        };
        let store =
            Arc::new(AssociationStore::open(config.associations, config.cluster, config.outbound, &files)?);
        store.register(&mut registry);
        warn_of_large_sessions(&store.snapshot().associations);
        let source =
            StsSource { sts: sts.clone(), naming: config.session_naming, readiness: readiness.clone() };
        let cached = config.service.capacity > 0;
        let service = CredentialService::builder(source).associations(store.clone()).config(config.service);
        let service = service.build()?;
        service.set_clusters(store.snapshot().clusters())?;
        let sessions = SessionMetrics::register(&mut registry, cached.then(|| service.clone()));

        let connections = Connections::new(config.limits.within_descriptors());
        connections.register(&mut registry);
        let listener = Listener::bind(config.listen).await?.with_connections(connections);
        let listener = match &certificate {
            Some(certificate) => listener.with_tls(certificate.tls()),
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
        let audit_failure = config.audit_failure;
        let server = Arc::new(Server { service, store, agents, metrics, sessions, audit_failure });
        Ok(Self { listener, admin, certificate, server, sts, readiness, tasks, failures })
    }

    /// Returns the address of EKS Auth.
    ///
    /// # Errors
    /// The error of the system.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Returns the address of the admin endpoints, if the configuration has one.
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
            tracing::info!(%address, tls = self.certificate.is_some(), "serving EKS Auth");
        }
        let Self { listener, admin, certificate, server, sts, readiness, tasks, failures } = self;
        let (stop, stopping) = Shutdown::manual();
        let spawn = |name, task: BoxFuture<'static, ()>| tasks.spawn(name, stopping.clone(), task);
        let (store, service) = (server.store.clone(), server.service.clone());
        tasks.spawn_finite("STS identity", {
            let (sts, snapshot, stopping) = (sts.clone(), store.snapshot(), stopping.clone());
            async move { sts.identify(&snapshot.associations, stopping).await }
        });
        spawn("key readiness", Box::pin(watch_keys(store.clone(), readiness, stopping.clone())));
        spawn("credential service", {
            let service = service.clone();
            Box::pin(async move { service.failed().await })
        });
        spawn("association check", Box::pin(recheck_associations(service.clone(), stopping.clone())));
        spawn(
            "associations",
            Box::pin(store.follow(service, stopping.clone(), move |snapshot| {
                warn_of_large_sessions(&snapshot.associations);
                sts.warn_of_long_sessions(&snapshot.associations);
            })),
        );
        if let Some(certificate) = certificate {
            spawn("TLS certificate", Box::pin(certificate.follow(stopping.clone())));
        }
        if let Some(AgentAuthenticator::SigV4(keys)) = server.agents.as_deref() {
            spawn("agent keys", Box::pin(keys.clone().follow(stopping.clone())));
        }
        // Health and metrics are served until the last request is done.
        if let Some((listener, admin)) = admin {
            tasks.spawn("admin endpoints", Shutdown::never(), listener.serve(admin, Shutdown::never()));
        }
        let result = failures.serve_until(shutdown, stop, listener.serve(server, stopping.clone())).await;
        tasks.cancel();
        tracing::info!("stopped");
        result
    }
}

/// Time between two checks of all cached sessions.
const RECHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Drops cached sessions without an association, once per interval until the shutdown. A request that began before a
/// reload may have cached one after it.
async fn recheck_associations(service: CredentialService, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.asked() => return,
            () = tokio::time::sleep(RECHECK_INTERVAL) => service.recheck_associations().await,
        }
    }
}

/// Time that a start waits for the keys of every issuer. One fetch, which may take 10 s, and a second one fit in. After
/// that the keys of one issuer are enough. Otherwise one unavailable issuer would keep every new replica unready.
const KEYS_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether a start still waits for keys.
fn waits_for_keys(missing: usize, issuers: usize, waited: Duration) -> bool {
    missing > 0 && (missing == issuers || waited < KEYS_TIMEOUT)
}

/// Keeps the condition `issuer_keys` up to date, until the shutdown.
async fn watch_keys(store: Arc<AssociationStore>, readiness: Readiness, mut shutdown: Shutdown) {
    let (start, mut reported) = (clock::monotonic(), Vec::new());
    loop {
        let snapshot = store.snapshot();
        let missing = snapshot.without_keys();
        let reason = || format!("no keys yet of {}", missing.join(", "));
        let waits = waits_for_keys(missing.len(), snapshot.issuers().count(), start.elapsed());
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
            () = shutdown.asked() => return readiness.leaving("the service is shutting down"),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_waits_for_all_issuers_at_first_and_for_one_issuer_without_limit() {
        let (soon, late) = (Duration::from_secs(1), Duration::from_secs(3600));
        assert!(!waits_for_keys(0, 2, soon));
        assert!(waits_for_keys(1, 2, soon));
        assert!(!waits_for_keys(1, 2, late), "one unavailable issuer keeps no replica unready");
        assert!(waits_for_keys(2, 2, late));
        assert!(!waits_for_keys(0, 0, soon), "no cluster, no keys");
    }
}
