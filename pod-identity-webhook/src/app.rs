//! The whole webhook, wired top-down.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_runtime::tasks::{self, TaskFailure};
use pod_identity_runtime::tls::TlsError;
use prometheus_client::registry::Registry;

use crate::admission::Admission;
use crate::certificate::TlsCertificate;
use crate::client::{self, ClientError};
use crate::config::{Config, ConfigError};
use crate::knowledge::{FileError, Knowledge};
use crate::server::Server;

/// The connections to the webhook.
///
/// An API server keeps a connection for 90 s after its last question (`IdleConnTimeout` of Go's default
/// transport, which client-go takes over). Were this program the first to close one, a review that is sent at
/// that moment would be lost: Go sends a POST again only if nothing of it was written. So the API server is
/// always the first. Reviews come from a few API servers, each with as many connections as it has pods being
/// created at once.
fn limits() -> Limits {
    Limits { connections: 1024, head: Duration::from_secs(120), ..Limits::default() }
}

/// Maximum time for the tasks to end after the last answer.
const CLEANUP_LIMIT: Duration = Duration::from_secs(2);

/// The webhook, bound to its ports but not serving yet.
#[derive(Debug)]
pub struct App {
    listener: Listener,
    admin: (Listener, Arc<Admin>),
    certificate: TlsCertificate,
    server: Arc<Server>,
    knowledge: Knowledge,
    readiness: Readiness,
    /// Tells the server that the end is near.
    leave: Ender,
    shutdown_delay: Duration,
}

/// Why the webhook does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Pods could not start with the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of accounts cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A port cannot be bound.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}

impl App {
    /// Reads every file and binds every port, so that what is wrong is said at the start.
    ///
    /// # Errors
    /// [`StartError`] with the cause.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        config.check()?;
        for flag in &config.without_effect {
            tracing::warn!("--{flag} has no effect here");
        }
        let mut registry = Registry::default();
        let readiness = Readiness::default();
        readiness.register(&mut registry);
        let client = client::client(&config.api_server).await?;
        let knowledge = Knowledge::open(&config, Some(&client), &readiness, &mut registry)?;
        let certificate = TlsCertificate::open(&config, &client, &readiness, &mut registry)?;
        let admission = Admission::new(knowledge.clone(), config.settings, &mut registry);
        let (leave, leaving) = Shutdown::manual();
        let tls = certificate.tls();
        let server = Arc::new(Server::new(admission, tls.has_client_ca(), leaving, &mut registry));
        let connections = Connections::new(config.limits.apply(limits()).within_descriptors());
        connections.register(&mut registry);
        let listener = bind(config.port).await?.with_tls(tls).with_connections(connections);
        let admin = Admin::new(readiness.clone(), registry);
        let admin_listener =
            bind(config.metrics_port).await?.with_connections(Connections::new(Limits::ADMIN));
        let admin = (admin_listener, Arc::new(admin));
        let shutdown_delay = config.shutdown_delay;
        Ok(Self { listener, admin, certificate, server, knowledge, readiness, leave, shutdown_delay })
    }

    /// The address of `/mutate`.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.address()
    }

    /// The address of `/metrics`.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.0.address()
    }

    /// Serves until some time after the shutdown, then drains.
    ///
    /// # Errors
    /// [`TaskFailure`] where a background task failed. The webhook then ends as after a shutdown: it would decide by
    /// outdated data, or serve an outdated certificate.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), TaskFailure> {
        if let Ok(address) = self.listener.address() {
            tracing::info!(%address, "serving reviews");
        }
        let (tasks, failures) = tasks::supervise();
        let (stop, stopping) = Shutdown::manual();
        // Files, service accounts and the certificate stay current until the last review is answered. Each of these
        // tasks ends at once where there is nothing to follow.
        let (answered, last) = Shutdown::manual();
        let limiter = self.server.log_limiter().clone();
        tasks.spawn_finite("lookup", self.knowledge.follow(self.readiness.clone(), last.clone()));
        tasks.spawn_finite("certificate", self.certificate.follow(last.clone()));
        tasks.spawn("log limits", last.clone(), limiter.follow(last.clone()));
        let (listener, admin) = self.admin;
        tasks.spawn("admin endpoints", last.clone(), listener.serve(admin, last));
        let (ender, end) = Shutdown::manual();
        let leave_late = leave_late(stopping, self.leave, self.readiness, self.shutdown_delay, ender);
        tasks.spawn_finite("shutdown", leave_late);
        let result = failures.serve_until(shutdown, stop, self.listener.serve(self.server, end)).await;
        answered.end();
        if !tasks.join(CLEANUP_LIMIT).await {
            tracing::warn!(seconds = CLEANUP_LIMIT.as_secs(), "shutdown cleanup timed out");
        }
        tracing::info!("stopped");
        result
    }
}

/// Ends the listener some time after the shutdown was asked for: API servers learn only then that this replica is
/// leaving its Service, and each answer until then closes its connection.
async fn leave_late(
    mut stopping: Shutdown,
    leave: Ender,
    readiness: Readiness,
    delay: Duration,
    ender: Ender,
) {
    stopping.asked().await;
    leave.end();
    readiness.leaving("this replica is shutting down");
    tracing::info!(seconds = delay.as_secs(), "shutdown begun: reviews are answered for a while");
    tokio::time::sleep(delay).await;
    ender.end();
}

/// Binds a port on every address, as Go does: both families where this machine has both.
async fn bind(port: u16) -> std::io::Result<Listener> {
    match Listener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
            Listener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        bound => bound,
    }
}
