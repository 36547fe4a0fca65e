//! The subcommand `report`: running pods that lack what their service accounts have.
//!
//! One process reads all running pods at a fixed interval and decides about each pod as the webhook would. It publishes
//! the pods that lack something in a list, in metrics and in Kubernetes Events. It changes no pod. Only pods that the API
//! server has stored are reported: a review does not prove that its pod exists, so no review causes a write.

mod counters; // counters with one label
mod events; // Kubernetes Events
mod finding; // what one pod lacks
mod list; // the published list and its metrics
mod pods; // running pods and namespaces, page by page

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_core::inject::{Injector, ServiceAccountFacts};
use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::clock::{self, Clock};
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tasks::{self, TaskFailure};
use prometheus_client::registry::Registry;

use self::counters::Counters;
use self::events::{EventQueue, EventWriter};
use self::finding::ListedPod;
use self::list::{Findings, Reading};
use crate::app::{self, StartError};
use crate::client;
use crate::config::Config;
use crate::lookup::{Freshness, Lookup, ReadFailure};
use pod_identity_runtime::logs::Fault;

/// The readiness condition that all pods have been read once.
const CONDITION: &str = "report";
/// Pause after the first failed reading. It doubles with each failure, up to the interval.
const RETRY: Duration = Duration::from_secs(5);
/// Maximum time from SIGTERM to the end of the tasks. Events that still wait are written by the next process.
const CLEANUP_LIMIT: Duration = Duration::from_secs(1);

/// The report, bound to its port but not reading yet.
pub struct Report {
    listener: Listener,
    admin: Arc<Admin>,
    reader: Reader,
    writer: EventWriter,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Report {
    /// Reads the configured files and binds the metrics port. `interval` is the pause between two readings.
    ///
    /// # Errors
    /// [`StartError`] with the cause.
    pub async fn bind(config: Config, interval: Duration) -> Result<Self, StartError> {
        config.check()?;
        let mut registry = Registry::default();
        let readiness = Readiness::default();
        readiness.register(&mut registry);
        readiness.pending(CONDITION, "the running pods have not been read yet; the log names failures");
        let client = client::client(&config.api_server).await?;
        // The watch of service accounts is not started: its condition and its metrics would mislead.
        let (unused, mut unregistered) = (Readiness::default(), Registry::default());
        let lookup = Lookup::open(&config, Some(&client), &unused, &mut unregistered)?;
        let (queue, writer) = events::channel(client.clone(), config.pod, &mut registry);
        let findings = Findings::register(&mut registry);
        let (name, help) = ("pod_identity_webhook_readings", "Readings of all running pods, by result");
        let readings = Counters::register(&mut registry, name, help, "result", ["ok", "failed"]);
        let connections = Connections::new(Limits::ADMIN);
        connections.register(&mut registry);
        let listener = app::bind(config.metrics_port).await?.with_connections(connections);
        let page = findings.clone();
        let admin = Admin::new(readiness.clone(), registry).with_page(Findings::PATH, move || page.page());
        let injector = Injector::new(config.settings);
        let reader = Reader { client, lookup, injector, findings, readings, queue, readiness, interval };
        Ok(Self { listener, admin: Arc::new(admin), reader, writer })
    }

    /// Returns the address of `/metrics` and of the list.
    ///
    /// # Errors
    /// An I/O error of the system call.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.address()
    }

    /// Reads pods until the shutdown.
    ///
    /// # Errors
    /// [`TaskFailure`] if a background task failed.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), TaskFailure> {
        let (tasks, failures) = tasks::supervise();
        let (stop, mut stopping) = Shutdown::manual();
        tasks.spawn("report", stopping.clone(), self.reader.follow(stopping.clone()));
        tasks.spawn("events", stopping.clone(), self.writer.follow(stopping.clone()));
        tasks.spawn("admin endpoints", stopping.clone(), self.listener.serve(self.admin, stopping.clone()));
        let result = failures.serve_until(shutdown, stop, stopping.asked()).await;
        tasks.join(CLEANUP_LIMIT).await;
        tracing::info!("stopped");
        result
    }
}

/// Reads pods and publishes the findings.
struct Reader {
    client: kube::Client,
    lookup: Lookup,
    injector: Injector,
    findings: Findings,
    readings: Counters,
    queue: EventQueue,
    readiness: Readiness,
    interval: Duration,
}

impl Reader {
    async fn follow(self, mut shutdown: Shutdown) {
        tokio::select! {
            () = self.read_repeatedly() => {}
            () = shutdown.asked() => {}
        }
    }

    async fn read_repeatedly(&self) {
        let (clock, mut fault, mut retry) = (Clock::default(), Fault::default(), RETRY);
        loop {
            let result = self.read().await;
            self.readings.increment(if result.is_ok() { "ok" } else { "failed" });
            let pause = match result {
                Ok(reading) => {
                    if fault.succeeded() {
                        tracing::info!("running pods can be read again");
                    }
                    retry = RETRY;
                    let (now, time) = (clock.now().monotonic, clock::now());
                    self.findings.replace(reading, now, time, |finding| self.queue.send(finding));
                    self.readiness.met(CONDITION);
                    self.interval
                }
                Err(error) => {
                    if let Some(lasted) = fault.failed(clock.now().monotonic) {
                        let failing_seconds = lasted.as_secs();
                        tracing::warn!(failing_seconds, "running pods could not be read: {error}");
                    }
                    let pause = retry.min(self.interval);
                    retry = pause * 2;
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads every running pod once. Each service account is read once for all of its pods, one after another, so that
    /// a reading is little load for the API server.
    async fn read(&self) -> Result<Reading, ReadFailure> {
        let namespaces = pods::namespaces(&self.client).await?;
        let mut service_accounts = HashMap::new();
        let (mut reading, mut token) = (Reading::default(), None);
        loop {
            let page = pods::page(&self.client, token.as_deref()).await?;
            let list = page.parse()?;
            // A pod that cannot be parsed cannot be decided about.
            for pod in list.pods().filter_map(ListedPod::parse).filter(|pod| !pod.deleted) {
                let Some(names) = pod.service_account() else { continue };
                if !service_accounts.contains_key(&names) {
                    let facts = self.facts(&names).await;
                    service_accounts.insert(names.clone(), facts);
                }
                match service_accounts.get(&names).cloned().flatten() {
                    Some(facts) => {
                        let namespace = namespaces.get(&pod.namespace).copied().unwrap_or_default();
                        let facts = ServiceAccountFacts { namespace, ..facts };
                        reading.found.extend(pod.lacks(&facts, &self.injector));
                    }
                    None => drop(reading.undetermined.insert(pod.uid)),
                }
            }
            token = list.next();
            if token.is_none() {
                return Ok(reading);
            }
        }
    }

    /// Returns the facts about a service account, or `None` if they cannot be read now.
    async fn facts(&self, (namespace, name): &(Namespace, ServiceAccount)) -> Option<ServiceAccountFacts> {
        let result = self.lookup.of(namespace, name, None, clock::monotonic()).await;
        (result.freshness == Freshness::Fresh).then(|| ServiceAccountFacts {
            associated: result.associated,
            settings: result.settings,
            ..ServiceAccountFacts::default()
        })
    }
}
