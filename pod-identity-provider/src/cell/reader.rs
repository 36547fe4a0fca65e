//! Reads of the cached credentials.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use pod_identity_core::cache::Slot;
use pod_identity_core::error::{CacheEffect, UpstreamError};
use pod_identity_core::time::Now;

use super::cached::{CachedCredentials, Need};
use crate::clock::Clock;
use crate::error::Error;

/// Credentials are served until they expire, because AWS accepts them until then.
pub(super) const MARGIN: Duration = Duration::ZERO;

/// The reason why a fetch brought no credentials, for all requests that waited. It never ends cached credentials, because
/// only AWS decides when they end.
#[derive(Debug)]
pub(super) struct FetchError(pub(super) Error);

impl UpstreamError for FetchError {
    fn effect(&self) -> CacheEffect {
        CacheEffect::CallFailed
    }
}

/// The cached credentials. A read takes no lock and writes nothing that other threads read.
#[derive(Debug)]
pub(super) struct Reader {
    slot: Arc<Slot<CachedCredentials, FetchError>>,
    clock: Clock,
    /// Whether the last fetch failed.
    failing: AtomicBool,
}

impl Reader {
    pub(super) fn new(clock: Clock) -> Self {
        Self { slot: Arc::default(), clock, failing: AtomicBool::new(false) }
    }

    pub(super) fn slot(&self) -> &Arc<Slot<CachedCredentials, FetchError>> {
        &self.slot
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Records whether a fetch failed. Returns whether the previous one did.
    pub(super) fn failed(&self, failed: bool) -> bool {
        self.failing.swap(failed, Ordering::Relaxed)
    }

    /// Returns the identity of credentials that are valid and not due. It costs one read of the wall clock and one
    /// comparison. The task that renews, and [`Self::credentials`], compare the monotonic clock too.
    pub(super) fn fresh_identity(&self) -> Option<Identity> {
        let second = self.clock.second();
        self.slot.peek(BEFORE_ANY_END, MARGIN, |entry| entry.value().fresh_identity(second))?
    }

    /// Returns the credentials that are valid, and what they need.
    pub(super) fn credentials(&self, now: Now) -> Option<(Credentials, Need)> {
        self.slot.peek(now, MARGIN, |entry| {
            let cached = entry.value();
            let need = match cached.need(entry.expiry().left(now)) {
                // While there are credentials, no request waits for a source that has just failed.
                Need::Fetch { .. } if self.failing.load(Ordering::Relaxed) => Need::Renewal,
                need => need,
            };
            (cached.credentials().clone(), need)
        })
    }

    /// Whether the cached credentials expire later than `end`.
    pub(super) fn outlasts(&self, end: SystemTime, now: Now) -> bool {
        self.slot.peek(now, MARGIN, |entry| entry.expiry().wall() > end).unwrap_or(false)
    }

    /// Returns the time until the credentials are due: zero if there are no valid ones.
    pub(super) fn due_in(&self, now: Now) -> Duration {
        let due_in = self.slot.peek(now, MARGIN, |entry| entry.value().due_in(entry.expiry().left(now)));
        due_in.unwrap_or_default()
    }
}

/// A time at which no entry has expired, for reads that compare times themselves.
const BEFORE_ANY_END: Now = Now { wall: SystemTime::UNIX_EPOCH, monotonic: Duration::ZERO };
