//! The certificate of `/mutate`: from files, which somebody else keeps, or of the webhook's own authority.
//!
//! With `--in-cluster` the replicas keep it themselves. A Secret holds the last generations, each an authority
//! with its one certificate; the `caBundle`s of the webhook configuration hold their authorities; a Lease says
//! which replica rotates. `rotation.rs` says what is to be done next, and why no API server ever meets a
//! certificate that it cannot verify.
//!
//! The certificate names `<service>.<namespace>.svc` and nothing else: API servers ask a Service by that name
//! (`k8s.io/apiserver`'s webhook client), whatever the cluster's domain is.

mod bundle;
mod generation;
mod keeper;
mod metrics;
mod rotation;
mod store;

use std::time::Duration;

use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock::{self, Clock};
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::{ServerTls, TlsError};
use prometheus_client::registry::Registry;

use crate::config::{Certificate, Config, ConfigError};
use crate::fault;
use crate::lease::{self, Election};
use crate::text::rfc3339;
use keeper::Keeper;
use metrics::Metrics;
use store::Store;

/// The readiness condition.
pub const CONDITION: &str = "certificate";

/// A certificate of our own: what it is called and for how long it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The Secret that it is kept in. The Lease has the same name.
    pub secret: String,
    /// The Service that it is for.
    pub service: String,
    /// The MutatingWebhookConfiguration whose entries ask that Service.
    pub configuration: String,
    /// How long a generation holds. The next one is made when two thirds of that are over.
    pub lifetime: Duration,
    /// How long API servers are given to learn an authority.
    pub wait: Duration,
}

impl Own {
    /// The last third of a life has to be enough for two waits: one until the new certificate is served, one
    /// until what is old has left the bundles. The rest is for looks and calls, and for an API server that is
    /// slow.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let (lifetime, wait) = (self.lifetime.as_secs(), self.wait.as_secs());
        let holds = wait > 0 && lifetime >= wait.saturating_mul(6).saturating_add(30);
        holds.then_some(()).ok_or(ConfigError::Lifetime { lifetime, wait })
    }

    fn name(&self, namespace: &str) -> String {
        format!("{}.{namespace}.svc", self.service)
    }
}

/// The certificate that is served.
#[derive(Debug)]
pub struct TlsCertificate {
    tls: ServerTls,
    own: Option<(Keeper, Election)>,
}

impl TlsCertificate {
    /// Reads the files, or makes ready to keep one of our own; nothing is asked of the API server yet.
    ///
    /// # Errors
    /// Where the files cannot be used.
    pub fn open(
        config: &Config,
        client: &kube::Client,
        readiness: &Readiness,
        registry: &mut Registry,
    ) -> Result<Self, TlsError> {
        let with_client_ca = |tls: ServerTls| match &config.client_ca {
            Some(path) => tls.with_client_ca(path),
            None => Ok(tls),
        };
        let own = match &config.certificate {
            Certificate::Files(files) => {
                let tls = with_client_ca(ServerTls::read(files.clone(), config.tls)?)?;
                metrics::register_expiry(registry, tls.clone());
                return Ok(Self { tls, own: None });
            }
            Certificate::Own(own) => own.clone(),
        };
        readiness.pending(CONDITION, "the API server was not asked yet");
        let (tls, clock) = (with_client_ca(ServerTls::in_memory(config.tls))?, Clock::default());
        metrics::register_expiry(registry, tls.clone());
        let identity = lease::identity(config.pod.as_deref());
        let election = Election::new(client.clone(), &config.namespace, &own.secret, identity, clock.clone());
        let keeper = Keeper {
            store: Store::new(client.clone(), config.namespace.clone(), own.clone()),
            name: own.name(&config.namespace),
            own,
            tls: tls.clone(),
            leadership: election.leadership(),
            readiness: readiness.clone(),
            metrics: Metrics::register(registry, election.leadership()),
            clock,
            known: keeper::Known::default(),
        };
        Ok(Self { tls, own: Some((keeper, election)) })
    }

    /// What a listener serves.
    pub fn tls(&self) -> ServerTls {
        self.tls.clone()
    }

    /// Keeps it until the end. From the shutdown on others rotate: what is served still follows them.
    pub async fn follow(self, shutdown: Shutdown, end: Shutdown) {
        match self.own {
            None => {
                tokio::join!(self.tls.clone().follow(end.clone()), warn_when_overdue(&self.tls, end));
            }
            Some((keeper, election)) => {
                // The client CA comes from a file.
                tokio::join!(keeper.follow(end.clone()), election.follow(shutdown), self.tls.follow(end));
            }
        }
    }
}

/// Warns once an hour while a certificate from files is not replaced in time.
async fn warn_when_overdue(tls: &ServerTls, mut end: Shutdown) {
    loop {
        if let Some(validity) = tls.validity().filter(|validity| validity.is_overdue(clock::now())) {
            tracing::warn!(
                expires = rfc3339(validity.until),
                "five sixths of the life of the certificate of --tls-cert are over: replace it before it expires"
            );
        }
        tokio::select! {
            () = end.asked() => return,
            () = tokio::time::sleep(fault::REPEAT) => {}
        }
    }
}
