//! Reads of the cached credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use pod_identity_core::cache::Slot;
use pod_identity_core::error::{CacheEffect, UpstreamError};
use pod_identity_core::time::Now;

use super::cached::{CachedCredentials, Freshness};
use crate::clock::Clock;
use crate::error::Error;

/// Credentials are served until they expire, because AWS accepts them until then.
pub(super) const EXPIRY_MARGIN: Duration = Duration::ZERO;

/// The error of a failed fetch, shared by all waiting requests. It never evicts cached credentials, because AWS accepts
/// them until they expire.
#[derive(Debug)]
pub(super) struct FetchError(pub(super) Error);

impl UpstreamError for FetchError {
    fn effect(&self) -> CacheEffect {
        CacheEffect::CallFailed
    }
}

/// The cached credentials. A read takes no lock and writes to no shared memory.
#[derive(Debug)]
pub(super) struct Reader {
    slot: Arc<Slot<CachedCredentials, FetchError>>,
    clock: Clock,
    last_fetch_failed: AtomicBool,
}

impl Reader {
    pub(super) fn new(clock: Clock) -> Self {
        Self { slot: Arc::default(), clock, last_fetch_failed: AtomicBool::new(false) }
    }

    pub(super) fn slot(&self) -> &Arc<Slot<CachedCredentials, FetchError>> {
        &self.slot
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Records whether a fetch failed. Returns whether the previous fetch failed.
    pub(super) fn record_result(&self, failed: bool) -> bool {
        self.last_fetch_failed.swap(failed, Ordering::Relaxed)
    }

    /// Returns the identity of the credentials if they are not due for renewal. This fast path reads only the wall clock.
    /// The renewal task and [`Self::credentials`] also compare the monotonic clock.
    pub(super) fn fresh_identity(&self) -> Option<Identity> {
        let now = self.clock.unix_seconds();
        self.slot.peek(BEFORE_ANY_EXPIRY, EXPIRY_MARGIN, |entry| entry.value().fresh_identity(now))?
    }

    /// Returns the credentials if they are valid, with their freshness.
    pub(super) fn credentials(&self, now: Now) -> Option<(Credentials, Freshness)> {
        self.slot.peek(now, EXPIRY_MARGIN, |entry| {
            let cached = entry.value();
            let freshness = match cached.freshness(entry.expiry().left(now)) {
                // A request with valid credentials does not wait for a source that has just failed.
                Freshness::NearExpiry { .. } if self.last_fetch_failed.load(Ordering::Relaxed) => {
                    Freshness::RenewalDue
                }
                freshness => freshness,
            };
            (cached.credentials().clone(), freshness)
        })
    }

    /// Returns whether the cached credentials expire after `expires_at`.
    pub(super) fn outlasts(&self, expires_at: SystemTime, now: Now) -> bool {
        self.slot.peek(now, EXPIRY_MARGIN, |entry| entry.expiry().wall() > expires_at).unwrap_or(false)
    }

    /// Returns the time until the credentials are due for renewal. Returns zero if there are no valid credentials.
    pub(super) fn due_in(&self, now: Now) -> Duration {
        let due_in =
            self.slot.peek(now, EXPIRY_MARGIN, |entry| entry.value().due_in(entry.expiry().left(now)));
        due_in.unwrap_or_default()
    }
}

/// A time before any expiry, for reads with their own check of the time.
const BEFORE_ANY_EXPIRY: Now = Now { wall: SystemTime::UNIX_EPOCH, monotonic: Duration::ZERO };
