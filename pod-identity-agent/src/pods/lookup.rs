//! The read of one pod that the watch has not shown.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::{Api, Client};
use pod_identity_core::identity::{Uid, WorkloadIdentity};
use pod_identity_runtime::clock;
use pod_identity_runtime::kubernetes::ApiFailure;
use pod_identity_runtime::metrics::ByLabel;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::table::{Known, KnownPod};

/// Maximum time of a read. SDKs wait for one second.
const DEADLINE: Duration = Duration::from_millis(500);
/// Time without reads after a read failed, so that requests do not wait for an API server that is away.
const PAUSE: Duration = Duration::from_secs(1);
/// Maximum number of reads per second, and at once.
const RATE: f64 = 10.0;
/// The RBAC rule of a read.
pub(super) const RULE: &str = "get, list and watch of pods in all namespaces (a ClusterRole)";

/// The result of a read.
#[derive(Debug)]
pub(super) enum Found {
    /// The pod exists. `None` if another request or the watch has found it.
    Running(Option<Box<KnownPod>>),
    /// The pod does not exist, or its name belongs to another pod.
    Deleted,
    /// The API server was not asked, or did not answer.
    Unknown,
}

/// Reads pods. Concurrent reads of one pod are one call.
pub(super) struct Lookup {
    client: Client,
    /// A lock for each pod that is being read.
    reading: Mutex<HashMap<Uid, Arc<tokio::sync::Mutex<()>>>>,
    limit: Mutex<Limit>,
    outcomes: ByLabel<Counter>,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Limit {
    /// Reads that may start at once.
    credit: f64,
    at: Instant,
    paused_until: Option<Instant>,
}

/// The labels of `pod_identity_pod_reads_total`.
const OUTCOMES: [&str; 4] = ["running", "deleted", "failed", "limited"];

impl Lookup {
    pub(super) fn new(client: Client) -> Self {
        let limit = Limit { credit: RATE, at: clock::monotonic(), paused_until: None };
        let outcomes = ByLabel::new("outcome", OUTCOMES);
        Self { client, reading: Mutex::default(), limit: Mutex::new(limit), outcomes }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help =
            "Reads of pods that the watch has not shown, by outcome; failed and limited ones are served";
        self.outcomes.register(registry, "pod_identity_pod_reads", help);
    }

    /// Reads a pod. `known` is called again after a wait for another request's read of the same pod.
    pub(super) async fn find(&self, pod: &WorkloadIdentity, known: impl Fn() -> Known) -> Found {
        let uid = &pod.pod.uid;
        let turn = self.lock(&self.reading).entry(uid.clone()).or_default().clone();
        let guard = turn.lock().await;
        let found = match known() {
            Known::Running => Found::Running(None),
            Known::Deleted => Found::Deleted,
            Known::Not => self.read(pod).await,
        };
        drop(guard);
        // The last request removes the lock: this one's, and the one in the map.
        let mut reading = self.lock(&self.reading);
        if Arc::strong_count(&turn) <= 2 {
            reading.remove(uid);
        }
        found
    }

    async fn read(&self, pod: &WorkloadIdentity) -> Found {
        if !self.lock(&self.limit).permits(clock::monotonic()) {
            self.outcomes.of("limited").inc();
            return Found::Unknown;
        }
        let api: Api<PodObject> = Api::namespaced(self.client.clone(), pod.namespace.as_str());
        let failure = match tokio::time::timeout(DEADLINE, api.get_opt(pod.pod.name.as_str())).await {
            Ok(Ok(object)) => return self.found(object, &pod.pod.uid),
            Ok(Err(error)) => ApiFailure::new(&error, RULE),
            Err(_) => ApiFailure::Deadline(DEADLINE),
        };
        tracing::debug!(%failure, namespace = %pod.namespace, pod = %pod.pod.name, "pod not read; its token is served");
        self.outcomes.of("failed").inc();
        self.lock(&self.limit).paused_until = Some(clock::monotonic() + PAUSE);
        Found::Unknown
    }

    fn found(&self, object: Option<PodObject>, uid: &Uid) -> Found {
        match object.and_then(KnownPod::of) {
            Some((found, pod)) if found == *uid => {
                self.outcomes.of("running").inc();
                Found::Running(Some(Box::new(pod)))
            }
            _ => {
                self.outcomes.of("deleted").inc();
                Found::Deleted
            }
        }
    }

    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> std::sync::MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limit {
    fn permits(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.credit, self.at) = ((self.credit + passed * RATE).min(RATE), now);
        if self.paused_until.is_some_and(|until| now < until) || self.credit < 1.0 {
            return false;
        }
        self.credit -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_limited_to_ten_per_second_and_pause_after_a_failure() {
        let start = clock::monotonic();
        let mut limit = Limit { credit: RATE, at: start, paused_until: None };
        assert_eq!((0..50).filter(|_| limit.permits(start)).count(), 10);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..50).filter(|_| limit.permits(later)).count(), 5);
        limit.paused_until = Some(later + PAUSE);
        let paused = later + Duration::from_millis(900);
        assert!(!limit.permits(paused));
        assert!(limit.permits(later + PAUSE));
    }
}
