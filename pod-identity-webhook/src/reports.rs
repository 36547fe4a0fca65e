//! Who is told of pods that go without what they should have, beside the log: people who look at an object, by
//! Kubernetes Events; and whoever asks which pods run without, by a list that is made by looking at them.
//!
//! Both are off unless asked for. They need rights that the rest of the program does not.

mod events; // what an object's Events say
mod reconciler; // pods that run already

use pod_identity_runtime::admin::Admin;
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use self::events::EventWriter;
pub use self::events::{Events, Said};
pub use self::reconciler::Finding;
use self::reconciler::{Findings, LEASE, Reconciler};
use crate::config::Config;
use crate::knowledge::{ChangeReceiver, Knowledge};
use crate::lease::{self, Election};

/// What reports there are.
#[derive(Debug)]
pub struct Reports {
    events: Option<(Events, EventWriter)>,
    reconciler: Option<Looking>,
}

/// The reconciler, and what says when it looks.
#[derive(Debug)]
struct Looking {
    reconciler: Reconciler,
    findings: Findings,
    election: Election,
    changes: ChangeReceiver,
}

impl Reports {
    /// Those that the configuration asks for; nothing is said yet.
    pub fn new(
        config: &Config,
        client: &kube::Client,
        knowledge: &Knowledge,
        registry: &mut Registry,
    ) -> Self {
        let pod = config.pod.clone().unwrap_or_default();
        let events = config.events.then(|| {
            let (events, waiting) = Events::channel(registry);
            let writer = EventWriter::new(client.clone(), pod.clone(), waiting, &events);
            (events, writer)
        });
        let reconciler = config.reconcile_interval.map(|interval| {
            let findings = Findings::register(registry);
            let identity = lease::identity(config.pod.as_deref());
            let election =
                Election::new(client.clone(), &config.namespace, LEASE, identity, Clock::default());
            let reconciler = Reconciler::new(
                client.clone(),
                knowledge.clone(),
                config.settings.clone(),
                findings.clone(),
                events.as_ref().map(|(events, _)| events.clone()),
                interval,
            );
            Looking { reconciler, findings, election, changes: knowledge.changes() }
        });
        Self { events, reconciler }
    }

    /// Takes what is said of an admission.
    pub fn events(&self) -> Option<Events> {
        self.events.as_ref().map(|(events, _)| events.clone())
    }

    /// The same endpoints, with the list of pods that run without where somebody makes it.
    pub fn with_page(&self, admin: Admin) -> Admin {
        match &self.reconciler {
            None => admin,
            Some(Looking { findings, .. }) => {
                let findings = findings.clone();
                admin.with_page(Findings::PATH, move || findings.page())
            }
        }
    }

    /// Looks until the shutdown, from when on another replica does; writes what is said until the end.
    pub async fn follow(self, shutdown: Shutdown, end: Shutdown) {
        let write = async {
            if let Some((events, writer)) = self.events {
                drop(events);
                writer.follow(end).await;
            }
        };
        let look = async {
            if let Some(Looking { reconciler, election, changes, .. }) = self.reconciler {
                let look = reconciler.follow(election.leadership(), changes, shutdown.clone());
                tokio::join!(look, election.follow(shutdown.clone()));
            }
        };
        tokio::join!(write, look);
    }
}
