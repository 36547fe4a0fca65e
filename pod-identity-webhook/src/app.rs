//! The wiring of the webhook.

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
use crate::lookup::{FileError, Lookup};
use crate::server::Server;
use crate::sources;

/// Returns the limits of connections.
///
/// An API server closes an idle connection after 90 s (`IdleConnTimeout` of Go's default transport, which client-go uses). The
/// webhook waits longer, so that the API server always closes first. Otherwise a review that is sent at that moment would be
/// lost: Go repeats a POST only if nothing of it was written. A few API servers send reviews, each on as many connections as
/// it creates pods at once.
fn limits() -> Limits {
    Limits { connections: 1024, head: Duration::from_secs(120), ..Limits::default() }
}

/// Maximum time for the tasks to end after the last response.
const CLEANUP_LIMIT: Duration = Duration::from_secs(2);

/// The webhook, bound to its ports but not serving yet.
#[derive(Debug)]
pub struct App {
    listener: Listener,
    admin: (Listener, Arc<Admin>),
    certificate: TlsCertificate,
    server: Arc<Server>,
    lookup: Lookup,
    readiness: Readiness,
    /// Makes each response close its connection.
    leave: Ender,
    shutdown_delay: Duration,
}

/// Why the webhook does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of service accounts cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no client for the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A port cannot be bound.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}

impl App {
    /// Reads every file and binds every port, so that errors appear at the start.
    ///
    /// # Errors
    /// [`StartError`] with the cause.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        config.check()?;
        for flag in &config.without_effect {
            tracing::warn!("--{flag} has no effect");
        }
        let mut registry = Registry::default();
        let readiness = Readiness::default();
        readiness.register(&mut registry);
        let client = client::client(&config.api_server).await?;
        let lookup = Lookup::open(&config, Some(&client), &readiness, &mut registry)?;
        sources::show(&config, &mut registry);
        let certificate = TlsCertificate::open(&config, &client, &readiness, &mut registry)?;
        let admission = Admission::new(lookup.clone(), config.settings, &mut registry);
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
        Ok(Self { listener, admin, certificate, server, lookup, readiness, leave, shutdown_delay })
    }

    /// Returns the address of `/mutate`.
    ///
    /// # Errors
    /// The system's, if it does not return the address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Returns the address of `/metrics`.
    ///
    /// # Errors
    /// The system's, if it does not return the address.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.0.address()
    }

    /// Serves until the shutdown and its delay are over, then drains connections.
    ///
    /// # Errors
    /// [`TaskFailure`] if a background task failed. The webhook then ends as after a shutdown, since it would decide by
    /// outdated data or serve an outdated certificate.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), TaskFailure> {
        if let Ok(address) = self.listener.address() {
            tracing::info!(%address, "serving reviews");
        }
        let (tasks, failures) = tasks::supervise();
        let (stop, stopping) = Shutdown::manual();
        // Files, service accounts and the certificate stay current until the last response. Each of these tasks ends at once
        // if it has nothing to follow.
        let (answered, last) = Shutdown::manual();
        let limiter = self.server.log_limiter().clone();
        tasks.spawn_finite("lookup", self.lookup.follow(self.readiness.clone(), last.clone()));
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

/// Ends the listener after the delay. Until then API servers learn that this replica leaves its Service, and each response
/// closes its connection.
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
    tracing::info!(delay_seconds = delay.as_secs(), "shutdown started, still serving");
    tokio::time::sleep(delay).await;
    ender.end();
}

/// Binds a port on all addresses, of IPv6 and IPv4 if the machine has both, as Go does.
pub(crate) async fn bind(port: u16) -> std::io::Result<Listener> {
    match Listener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error) if !matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {
            Listener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        bound => bound,
    }
}
