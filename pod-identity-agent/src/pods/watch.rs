//! The watch of the node's pods.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use pod_identity_core::identity::{NodeName, Uid};
use pod_identity_core::service::CredentialService;
use pod_identity_runtime::clock;
use pod_identity_runtime::kubernetes::ApiFailure;
use pod_identity_runtime::logs::FAULT_REPEAT;
use pod_identity_runtime::metrics::{ByLabel, register_gauge};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::check::Pods;
use super::lookup::RULE;
use super::table::KnownPod;

/// Duration of one watch request. A connection that died silently is noticed at its end.
const REQUEST_SECONDS: u32 = 30;
/// The answer of an API server that no longer has the version of the watch.
const GONE: u16 = 410;

/// Watches the pods of a node, and drops the credentials of deleted ones.
#[derive(Debug)]
pub struct Watch {
    pods: Pods,
    api: Api<PodObject>,
    node: NodeName,
    failures: ByLabel<Counter>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Time of the last event or accepted list, or of the start.
    current: Instant,
    /// Time of the last log line about a failure, while the watch fails.
    failing: Option<Instant>,
}

impl Watch {
    /// Makes the watch, and registers its metrics.
    pub fn new(pods: Pods, client: Client, node: NodeName, registry: &mut Registry) -> Self {
        let failures = ByLabel::new("reason", ApiFailure::ALL);
        failures.register(
            registry,
            "pod_identity_pod_watch_failures",
            "Failures of the watch of this node's pods, by reason",
        );
        let state = Arc::new(Mutex::new(State { current: clock::monotonic(), failing: None }));
        let of_gauge = state.clone();
        register_gauge(
            registry,
            "pod_identity_pod_watch_failing_seconds",
            "Time for which the watch of this node's pods has failed, in seconds; 0 while it works",
            move || {
                let state = of_gauge.lock().unwrap_or_else(PoisonError::into_inner);
                let since = clock::monotonic().saturating_duration_since(state.current);
                Some(state.failing.map_or(0.0, |_| since.as_secs_f64()))
            },
        );
        Self { pods, api: Api::all(client), node, failures, state }
    }

    /// Lists and watches forever. The earlier pods stay known during a failure.
    pub async fn run(self, service: CredentialService) {
        // A list of the API server's own memory, because a selected list of etcd reads the pods of all nodes.
        let selector = format!("spec.nodeName={}", self.node);
        let config = watcher::Config::default().fields(&selector).any_semantic().timeout(REQUEST_SECONDS);
        let mut events = pin!(watcher(self.api.clone(), config).default_backoff());
        let mut listed = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if !matches!(event, Event::Init | Event::InitApply(_)) {
                        self.works();
                    }
                    self.apply(event, &mut listed, &service);
                }
                Err(watcher::Error::WatchError(status)) if status.code == GONE => {
                    tracing::info!("watch of this node's pods expired: listing again");
                }
                Err(error) => self.failed(&failure(&error)),
            }
        }
    }

    fn apply(&self, event: Event<PodObject>, listed: &mut Vec<(Uid, KnownPod)>, service: &CredentialService) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => listed.extend(KnownPod::of(object)),
            Event::InitDone => {
                let listed = std::mem::take(listed);
                tracing::info!(pods = listed.len(), node = %self.node, "pods of this node listed");
                self.pods.write(|table| table.replace(listed));
                // A credential of a pod that was deleted during an outage of the API server.
                service.retain_pods(|pod| !self.pods.read(|table| table.is_deleted(&pod.pod.uid)));
            }
            Event::Apply(object) => {
                if let Some((uid, pod)) = KnownPod::of(object) {
                    self.pods.write(|table| table.add(uid, pod));
                }
            }
            Event::Delete(object) => {
                if let Some((uid, pod)) = KnownPod::of(object) {
                    tracing::debug!(namespace = pod.namespace, pod = pod.name, "pod deleted");
                    self.pods.write(|table| table.deleted(&uid));
                    service.retain_pods(|pod| pod.pod.uid != uid);
                }
            }
        }
    }

    fn works(&self) {
        let mut state = self.state();
        state.current = clock::monotonic();
        if state.failing.take().is_some() {
            tracing::info!("watch of this node's pods recovered");
        }
    }

    fn failed(&self, failure: &ApiFailure) {
        self.failures.of(failure.as_str()).inc();
        let now = clock::monotonic();
        let mut state = self.state();
        if state.failing.is_none_or(|logged| now.saturating_duration_since(logged) >= FAULT_REPEAT) {
            state.failing = Some(now);
            tracing::warn!(
                reason = failure.as_str(),
                "watch of this node's pods failed: {failure}. Until it works, the tokens of deleted pods may be served"
            );
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure(error: &watcher::Error) -> ApiFailure {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => ApiFailure::new(error, RULE),
        watcher::Error::WatchError(status) => ApiFailure::new(&kube::Error::Api(status.clone()), RULE),
        watcher::Error::NoResourceVersion => ApiFailure::Answer(error.to_string()),
    }
}
