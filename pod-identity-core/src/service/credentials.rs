//! Credentials from a service.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::cache::Entry;
use crate::credentials::SessionCredentials;
use crate::identity::WorkloadIdentity;
use crate::time::Expires;

/// The value of a cache entry: credentials, and their JSON after its first use.
pub(super) struct Cached {
    credentials: SessionCredentials,
    identity: Arc<WorkloadIdentity>,
    json: OnceLock<Zeroizing<Vec<u8>>>,
}

impl Cached {
    pub(super) fn new(credentials: SessionCredentials, identity: Arc<WorkloadIdentity>) -> Self {
        Self { credentials, identity, json: OnceLock::new() }
    }
}

impl Expires for Cached {
    fn expires_at(&self) -> SystemTime {
        self.credentials.expires_at()
    }
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.credentials.fmt(f)
    }
}

/// How credentials were obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Fetched for this request.
    Fetched,
    /// Fetched for another request at the same time.
    Shared,
    /// Cached and fresh.
    Cached,
    /// Cached and stale, because the upstream is down.
    Stale,
}

impl Origin {
    /// Returns the name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Shared => "shared",
            Self::Cached => "cached",
            Self::Stale => "stale",
        }
    }
}

/// Credentials of a pod. Clones share the data. It is zeroed when the last clone and the cache have dropped it.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub(super) entry: Arc<Entry<Cached>>,
    pub(super) origin: Origin,
}

impl Credentials {
    /// Returns the JSON for the container credentials provider of AWS SDKs. The content type of the response is
    /// `application/json`.
    pub fn container_json(&self) -> &[u8] {
        let Cached { credentials, json, .. } = self.entry.value();
        // The service caches no credentials whose expiry cannot be written.
        json.get_or_init(|| credentials.to_container_json().unwrap_or_default())
    }

    /// Returns the session credentials.
    pub fn session(&self) -> &SessionCredentials {
        &self.entry.value().credentials
    }

    /// Returns the pod of the credentials.
    pub fn identity(&self) -> &Arc<WorkloadIdentity> {
        &self.entry.value().identity
    }

    /// Returns how the credentials were obtained.
    pub fn origin(&self) -> Origin {
        self.origin
    }
}

/// The JSON. A server can send it without a copy.
impl AsRef<[u8]> for Credentials {
    fn as_ref(&self) -> &[u8] {
        self.container_json()
    }
}
