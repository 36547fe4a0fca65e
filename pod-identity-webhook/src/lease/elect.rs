//! The election: the Lease read and written.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::shutdown::Shutdown;
use tokio::sync::watch;

use super::{Candidate, PERIOD};
use crate::fault::Fault;
use crate::lookup::ReadFailure;

/// How long reading and writing the Lease may take together. With [`RETRY`], a renewal that fails is tried once
/// more before who leads would stop to.
const LIMIT: Duration = Duration::from_secs(3);
/// What RBAC has to allow.
const RULE: &str = "get and update of this Lease, and create of leases where it is not there";
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A candidate in an election.
#[derive(Debug)]
pub struct Election {
    leases: Api<Lease>,
    name: String,
    candidate: Candidate,
    leads_until: watch::Sender<Option<Duration>>,
    clock: Clock,
}

/// Whether a candidate leads. Clones say the same.
#[derive(Debug, Clone)]
pub struct Leadership {
    leads_until: watch::Receiver<Option<Duration>>,
    clock: Clock,
}

impl Leadership {
    /// Whether it leads at this moment. It may not a moment later: each step of a leader asks anew.
    pub fn holds(&self) -> bool {
        self.leads_until.borrow().is_some_and(|until| self.clock.now().monotonic < until)
    }

    /// Waits until it is known anew whether it leads. It waits for ever once the election is over.
    pub async fn changed(&mut self) {
        if self.leads_until.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Election {
    /// Stands for the Lease of that name, as the one of that [`identity`](super::identity).
    pub fn new(client: kube::Client, namespace: &str, name: &str, identity: String, clock: Clock) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            candidate: Candidate::new(identity),
            leads_until: watch::Sender::default(),
            clock,
        }
    }

    /// How it stands.
    pub fn leadership(&self) -> Leadership {
        Leadership { leads_until: self.leads_until.subscribe(), clock: self.clock.clone() }
    }

    /// Takes part until the shutdown, and gives the Lease back then.
    pub async fn follow(mut self, mut shutdown: Shutdown) {
        let mut fault = Fault::default();
        loop {
            let round = tokio::time::timeout(LIMIT, self.round()).await;
            let (pause, failure) = match round {
                Ok(Ok(())) => (PERIOD, None),
                // Somebody has changed it meanwhile; the next look shows who and what.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => (RETRY, None),
                Ok(Err(error)) => (RETRY, Some(ReadFailure::of(&error, RULE).to_string())),
                Err(_) => (RETRY, Some(format!("no answer within {} s", LIMIT.as_secs()))),
            };
            if let Some(error) = failure {
                if let Some(lasted) = fault.failed(self.clock.now().monotonic) {
                    let failing_seconds = lasted.as_secs();
                    tracing::warn!(lease = %self.name, %error, failing_seconds, "the Lease cannot be kept");
                }
            } else if fault.succeeded() {
                tracing::info!(lease = %self.name, "the Lease can be kept again");
            }
            self.publish();
            tokio::select! {
                () = shutdown.asked() => break,
                () = self.clock.sleep(pause) => {}
            }
        }
        let released = tokio::time::timeout(LIMIT, self.release()).await;
        tracing::info!(lease = %self.name, released = matches!(released, Ok(Ok(()))), "left the election");
    }

    async fn round(&mut self) -> Result<(), kube::Error> {
        let found = self.leases.get_opt(&self.name).await?;
        let is_new = found.is_none();
        let now = self.clock.now();
        let Some(mut lease) = self.candidate.look(found, now) else { return Ok(()) };
        if is_new {
            lease.metadata.name = Some(self.name.clone());
            self.leases.create(&PostParams::default(), &lease).await?;
        } else {
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        self.candidate.written(now.monotonic);
        Ok(())
    }

    async fn release(&mut self) -> Result<(), kube::Error> {
        // Nobody may act for this candidate any more when others learn that they may.
        self.leads_until.send_replace(None);
        let found = self.leases.get(&self.name).await?;
        if let Some(lease) = self.candidate.release(found) {
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    fn publish(&self) {
        let now = self.clock.now().monotonic;
        let until = self.candidate.leads_until.filter(|until| now < *until);
        self.leads_until.send_if_modified(|known| {
            if known.is_some() != until.is_some() {
                let message = if until.is_some() { "leading" } else { "no longer leading" };
                tracing::info!(lease = %self.name, identity = %self.candidate.identity, "{message}");
            }
            std::mem::replace(known, until) != until
        });
    }
}
