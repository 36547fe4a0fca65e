//! The whole webhook, wired top-down.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_runtime::tls::TlsError;
use prometheus_client::registry::Registry;
use tokio::task::{JoinError, JoinSet};

use crate::admission::Admission;
use crate::certificate::TlsCertificate;
use crate::client::{self, ClientError};
use crate::config::{Config, ConfigError};
use crate::knowledge::{FileError, Knowledge};
use crate::reports::Reports;
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

/// How long the last of what is kept may take to end: a Lease is given back.
const TO_LEAVE: Duration = Duration::from_secs(2);

/// The webhook, bound to its ports but not serving yet.
#[derive(Debug)]
pub struct App {
    listener: Listener,
    admin: (Listener, Arc<Admin>),
    certificate: TlsCertificate,
    server: Arc<Server>,
    knowledge: Knowledge,
    reports: Reports,
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
        let reports = Reports::new(&config, &client, &knowledge, &mut registry);
        let admission = Admission::new(knowledge.clone(), config.settings, &mut registry);
        let (leave, leaving) = Shutdown::manual();
        let tls = certificate.tls();
        let server = Arc::new(Server::new(admission, tls.has_client_ca(), leaving, &mut registry));
        let connections = Connections::new(config.limits.apply(limits()).within_descriptors());
        connections.register(&mut registry);
        let listener = bind(config.port).await?.with_tls(tls).with_connections(connections);
        let admin = reports.with_page(Admin::new(readiness.clone(), registry));
        let admin_listener =
            bind(config.metrics_port).await?.with_connections(Connections::new(Limits::ADMIN));
        let admin = (admin_listener, Arc::new(admin));
        let shutdown_delay = config.shutdown_delay;
        Ok(Self {
            listener,
            admin,
            certificate,
            server,
            knowledge,
            reports,
            readiness,
            leave,
            shutdown_delay,
        })
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
    /// [`Broken`] where a part of the program failed by its own fault. It ends then, as after a shutdown: what
    /// goes on without that part would be wrong sooner or later, and nobody would know.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Broken> {
        if let Ok(address) = self.listener.address() {
            tracing::info!(%address, "serving reviews");
        }
        // Files, accounts and certificate stay current until the last review is answered.
        let (answered, last) = Shutdown::manual();
        let mut keeping = JoinSet::new();
        keeping.spawn(self.knowledge.follow(self.readiness.clone(), last.clone()));
        keeping.spawn(self.certificate.follow(shutdown.clone(), last.clone()));
        let last_of_logs = last.clone();
        keeping.spawn(self.reports.follow(shutdown.clone(), last));
        keeping.spawn(self.server.log_limiter().clone().follow(last_of_logs));
        let mut tasks = JoinSet::new();
        let (listener, admin) = self.admin;
        tasks.spawn(listener.serve(admin, Shutdown::never()));
        let (ender, end) = Shutdown::manual();
        let (breaker, broken) = Shutdown::manual();
        let readiness = self.readiness;
        tasks.spawn(leave_late(shutdown, broken, self.leave, readiness, self.shutdown_delay, ender));

        let mut serving = std::pin::pin!(self.listener.serve(self.server, end));
        let mut result = Ok(());
        loop {
            tokio::select! {
                () = &mut serving => break,
                Some(ended) = keeping.join_next() => if is_broken(ended) {
                    breaker.end();
                    result = Err(Broken);
                }
            }
        }
        answered.end();
        let rest = async {
            while let Some(ended) = keeping.join_next().await {
                if is_broken(ended) {
                    result = Err(Broken);
                }
            }
        };
        if tokio::time::timeout(TO_LEAVE, rest).await.is_err() {
            tracing::warn!("what was to be said to the API server at the end was not said in time");
        }
        tasks.shutdown().await;
        tracing::info!("stopped");
        result
    }
}

/// A part of the program panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a part of the program failed; what it said is above. This is a fault of the program: please report it"
)]
pub struct Broken;

/// Whether a task ended by a panic. Those that have nothing to do end as well.
fn is_broken(ended: Result<(), JoinError>) -> bool {
    ended.is_err_and(|error| error.is_panic())
}

/// Passes the end on after a while. Until the cluster has heard that this replica is going, and each connection
/// that is kept has seen an answer which ends it, API servers go on asking here.
async fn leave_late(
    mut shutdown: Shutdown,
    mut broken: Shutdown,
    leave: Ender,
    readiness: Readiness,
    delay: Duration,
    ender: Ender,
) {
    tokio::select! {
        () = shutdown.asked() => {}
        () = broken.asked() => {}
    }
    leave.end();
    readiness.leaving("this replica is about to end");
    tracing::info!(seconds = delay.as_secs(), "still serving, until nobody asks here any more");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_is_broken_that_panicked_and_not_one_that_had_nothing_to_do_or_was_stopped() {
        let mut parts = JoinSet::new();
        parts.spawn(async {});
        assert!(!is_broken(parts.join_next().await.unwrap()));
        parts.spawn(async { panic!("as a part that is at fault does") });
        assert!(is_broken(parts.join_next().await.unwrap()));
        parts.spawn(std::future::pending());
        parts.abort_all();
        assert!(!is_broken(parts.join_next().await.unwrap()));
    }
}
