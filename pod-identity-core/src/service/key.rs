//! The cache key of a session.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::association::Association;
use crate::cluster::Cluster;
use crate::identity::WorkloadIdentity;

/// Everything that determines a session: the pod, its cluster, and the whole association. A changed association makes
/// another key, so it is never served with credentials of the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionKey(Arc<Content>);

#[derive(Debug, PartialEq, Eq)]
struct Content {
    identity: Arc<WorkloadIdentity>,
    cluster: Arc<Cluster>,
    association: Option<Arc<Association>>,
    /// Makes keys unique in a service without cache.
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

/// Hashes the fields that differ between pods. Equality compares all fields.
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
