//! The data of a [`CredentialCache`](super::CredentialCache), which its leaders share.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::tokens::Tokens;
use super::{Serving, SessionCache, SessionCacheConfig, Slot};
use crate::error::UpstreamError;
use crate::time::{Expires, Now};

/// The bounds of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// Maximum number of cached identities. Beyond it, each new identity evicts another one, as in a
    /// [`SessionCacheConfig`].
    pub capacity: usize,
    /// Limits for serving an entry.
    pub serving: Serving,
    /// Whether verified tokens are remembered. A remembered token needs no verification, and its identity can be
    /// renewed.
    pub remember_tokens: bool,
}

impl Default for CacheConfig {
    /// 2,000 identities as in AWS's agent, served until 15 s before their expiry; tokens are remembered.
    fn default() -> Self {
        Self { capacity: 2000, serving: Serving::until_end(Duration::from_secs(15)), remember_tokens: true }
    }
}

/// Tokens and sessions.
pub(super) struct State<K, V, E> {
    pub(super) config: CacheConfig,
    pub(super) tokens: Tokens<K, V, E>,
    pub(super) sessions: SessionCache<K, V, E>,
}

impl<K, V, E> State<K, V, E>
where
    K: Hash + Eq + Clone,
    V: Expires,
    E: UpstreamError,
{
    pub(super) fn new(config: CacheConfig) -> Self {
        let CacheConfig { capacity, serving, .. } = config;
        let sessions = SessionCache::new(SessionCacheConfig { capacity, serving });
        Self { config, tokens: Tokens::new(), sessions }
    }

    /// Returns the slot of an identity, or a new one.
    pub(super) fn slot(&self, identity: &K, now: Now) -> Arc<Slot<V, E>> {
        self.sessions.slot(identity, now)
    }
}

impl<K, V, E> std::fmt::Debug for State<K, V, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("config", &self.config).finish_non_exhaustive()
    }
}
