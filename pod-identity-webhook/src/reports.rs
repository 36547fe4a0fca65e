//! Reports of running pods that lack what their service accounts have: in Kubernetes Events on the pods, and in a
//! list on the metrics port.
//!
//! Off by default: the reconciler needs rights that the rest of the program does not. Only pods that the API server
//! has stored are reported. A review does not prove that its pod exists, so no review causes a write.

mod events; // what an object's Events say
mod reconciler; // pods that run already

use pod_identity_runtime::admin::Admin;
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use self::events::{EventWriter, Events};
pub use self::reconciler::Finding;
use self::reconciler::{Findings, LEASE, Reconciler};
use crate::config::Config;
use crate::knowledge::{ChangeReceiver, Knowledge};
use crate::lease::{self, Election};

/// The reconciler of `--reconcile-interval`, if it is on.
#[derive(Debug)]
pub struct Reports(Option<Looking>);

/// The reconciler, and what says when it looks.
#[derive(Debug)]
struct Looking {
    reconciler: Reconciler,
    findings: Findings,
    writer: EventWriter,
    election: Election,
    changes: ChangeReceiver,
}

impl Reports {
    /// Prepares what the configuration asks for. [`follow`](Self::follow) starts it.
    pub fn new(
        config: &Config,
        client: &kube::Client,
        knowledge: &Knowledge,
        registry: &mut Registry,
    ) -> Self {
        Self(config.reconcile_interval.map(|interval| {
            let (events, waiting) = Events::channel(registry);
            let pod = config.pod.clone().unwrap_or_default();
            let writer = EventWriter::new(client.clone(), pod, waiting, &events);
            let findings = Findings::register(registry);
            let identity = lease::identity(config.pod.as_deref());
            let election =
                Election::new(client.clone(), &config.namespace, LEASE, identity, Clock::default());
            let reconciler = Reconciler::new(
                client.clone(),
                knowledge.clone(),
                config.settings.clone(),
                findings.clone(),
                events,
                interval,
            );
            Looking { reconciler, findings, writer, election, changes: knowledge.changes() }
        }))
    }

    /// The same endpoints, with the list of pods that run without where somebody makes it.
    pub fn with_page(&self, admin: Admin) -> Admin {
        match &self.0 {
            None => admin,
            Some(Looking { findings, .. }) => {
                let findings = findings.clone();
                admin.with_page(Findings::PATH, move || findings.page())
            }
        }
    }

    /// Reads pods until the shutdown, when another replica takes over. Writes Events until the end.
    pub async fn follow(self, shutdown: Shutdown, end: Shutdown) {
        if let Some(Looking { reconciler, writer, election, changes, .. }) = self.0 {
            let look = reconciler.follow(election.leadership(), changes, shutdown.clone());
            tokio::join!(look, election.follow(shutdown), writer.follow(end));
        }
    }
}
