//! The known pods of the node, and the UIDs of deleted ones.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod as PodObject;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::Uid;
use pod_identity_core::service::Peer;

/// Maximum number of remembered UIDs of deleted pods. The API server is asked about older ones again.
const MAX_DELETED: usize = 4096;
/// The variable that the webhook adds to a pod for Pod Identity.
const INJECTED: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// Time after which a pod without a request is counted.
const SILENT: Duration = Duration::from_secs(300);

/// What the table knows of a UID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// The pod exists.
    Running,
    /// The pod was deleted. A UID is never used again.
    Deleted,
    /// The table does not have the pod.
    Not,
}

/// The pods by UID.
#[derive(Debug)]
pub(super) struct Table {
    pods: HashMap<Uid, KnownPod>,
    deleted: HashSet<Uid>,
    /// In the order of their deletion.
    deleted_order: VecDeque<Uid>,
    /// Start of the agent. Earlier requests are unknown.
    started: SystemTime,
}

/// What the agent keeps of a pod.
#[derive(Debug)]
pub(super) struct KnownPod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) service_account: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) host_network: bool,
    /// Whether a container has the webhook's variable.
    pub(super) injected: bool,
    /// Whether the pod has not ended.
    pub(super) active: bool,
    pub(super) started: Option<SystemTime>,
    /// Seconds since 1970 of the last request that was served; 0 without one.
    requested: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

/// The last error of a pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) code: ErrorCode,
    pub(super) at: SystemTime,
}

impl Table {
    pub(super) fn new(started: SystemTime) -> Self {
        Self { pods: HashMap::new(), deleted: HashSet::new(), deleted_order: VecDeque::new(), started }
    }

    pub(super) fn get(&self, uid: &Uid) -> Option<&KnownPod> {
        self.pods.get(uid)
    }

    pub(super) fn find(&self, uid: &Uid) -> Known {
        match (self.pods.contains_key(uid), self.deleted.contains(uid)) {
            (true, _) => Known::Running,
            (false, true) => Known::Deleted,
            (false, false) => Known::Not,
        }
    }

    /// Adds a pod or replaces it. Its requests stay. A deleted pod stays deleted: a late read may still show it.
    pub(super) fn add(&mut self, uid: Uid, mut pod: KnownPod) {
        if self.deleted.contains(&uid) {
            return;
        }
        if let Some(before) = self.pods.remove(&uid) {
            pod.requested = before.requested;
            pod.failure = before.failure;
        }
        self.pods.insert(uid, pod);
    }

    pub(super) fn deleted(&mut self, uid: &Uid) {
        self.pods.remove(uid);
        self.pods.shrink_to(2 * self.pods.len());
        if self.deleted.insert(uid.clone()) {
            self.deleted_order.push_back(uid.clone());
        }
        if self.deleted_order.len() > MAX_DELETED
            && let Some(oldest) = self.deleted_order.pop_front()
        {
            self.deleted.remove(&oldest);
        }
    }

    /// Replaces all pods with those of a list. Pods that are not in it were deleted.
    pub(super) fn replace(&mut self, listed: Vec<(Uid, KnownPod)>) {
        let uids: HashSet<_> = listed.iter().map(|(uid, _)| uid.clone()).collect();
        let gone: Vec<_> = self.pods.keys().filter(|uid| !uids.contains(*uid)).cloned().collect();
        gone.iter().for_each(|uid| self.deleted(uid));
        for (uid, pod) in listed {
            self.add(uid, pod);
        }
    }

    pub(super) fn is_deleted(&self, uid: &Uid) -> bool {
        self.deleted.contains(uid)
    }

    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    /// Returns the injected pods.
    pub(super) fn injected(&self) -> impl Iterator<Item = (&Uid, &KnownPod)> {
        self.pods.iter().filter(|(_, pod)| pod.injected)
    }

    /// Returns the number of injected pods that have run for 5 minutes without a request. Pods that are older than the
    /// agent do not count, because their earlier requests are unknown.
    pub(super) fn without_request(&self, now: SystemTime) -> usize {
        let silent = |pod: &KnownPod| {
            let since = pod.started.filter(|started| *started >= self.started);
            let running = since.and_then(|since| now.duration_since(since).ok());
            pod.active && running.is_some_and(|running| running >= SILENT) && pod.last_request().is_none()
        };
        self.injected().filter(|(_, pod)| silent(pod)).count()
    }

    pub(super) fn refused(&self, address: IpAddr, code: ErrorCode, now: SystemTime) {
        // Pods on the host's network share the node's address.
        let mut pods = self.pods.values().filter(|pod| !pod.host_network && pod.addresses.contains(&address));
        if let Some(pod) = pods.next() {
            *pod.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Failure { code, at: now });
        }
    }
}

impl KnownPod {
    /// Reads the fields of an object. Returns `None` for an object without a UID, which the API server never sends.
    pub(super) fn of(object: PodObject) -> Option<(Uid, Self)> {
        let (metadata, spec, status) =
            (object.metadata, object.spec.unwrap_or_default(), object.status.unwrap_or_default());
        let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let injected = containers
            .any(|container| container.env.iter().flatten().any(|variable| variable.name == INJECTED));
        let addresses = status.pod_ips.iter().flatten();
        let pod = Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            service_account: spec.service_account_name.unwrap_or_default(),
            addresses: addresses.filter_map(|address| address.ip.parse().ok()).collect(),
            host_network: spec.host_network.unwrap_or_default(),
            injected,
            active: !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            started: status.start_time.map(|time| time.0.into()),
            requested: AtomicU64::new(0),
            failure: Mutex::default(),
        };
        Some((metadata.uid?.parse().ok()?, pod))
    }

    /// Returns whether requests of the pod come from this address. It is true if the pod's addresses are not known yet.
    pub(super) fn has_address(&self, address: IpAddr, peer: impl FnOnce() -> Peer) -> bool {
        if self.host_network {
            return peer() == Peer::Local;
        }
        self.addresses.is_empty() || self.addresses.contains(&address)
    }

    pub(super) fn addresses_text(&self) -> String {
        if self.host_network {
            return "the node's addresses".to_owned();
        }
        let mut text = String::new();
        for address in &self.addresses {
            let _ = write!(text, "{}{address}", if text.is_empty() { "" } else { ", " });
        }
        text
    }

    pub(super) fn requested(&self, now: SystemTime) {
        let seconds = now.duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
        if self.requested.load(Ordering::Relaxed) != seconds {
            self.requested.store(seconds, Ordering::Relaxed);
        }
    }

    pub(super) fn last_request(&self) -> Option<SystemTime> {
        let seconds = self.requested.load(Ordering::Relaxed);
        (seconds > 0).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
