//! The key of a cache entry.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::association::Association;
use crate::cluster::Cluster;
use crate::identity::WorkloadIdentity;

/// Everything that decides about a session: the pod, its cluster, and the whole association. A changed
/// association is another key, so it is never served with credentials of the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionKey(Arc<Content>);

#[derive(Debug, PartialEq, Eq)]
struct Content {
    identity: Arc<WorkloadIdentity>,
    cluster: Arc<Cluster>,
    association: Option<Arc<Association>>,
    /// Makes the keys of a service without cache differ.
    serial: u64,
}

impl SessionKey {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        identity: Arc<WorkloadIdentity>,
        association: Option<Arc<Association>>,
        serial: u64,
    ) -> Self {
        Self(Arc::new(Content { identity, cluster, association, serial }))
    }

    pub(super) fn identity(&self) -> &Arc<WorkloadIdentity> {
        &self.0.identity
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.0.cluster
    }

    pub(super) fn association(&self) -> Option<&Arc<Association>> {
        self.0.association.as_ref()
    }
}

/// Hashes what differs between pods. Equality compares everything.
impl Hash for SessionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Content { identity, serial, .. } = &*self.0;
        (&identity.pod.uid, &identity.namespace, serial).hash(state);
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.identity.fmt(f)
    }
}
