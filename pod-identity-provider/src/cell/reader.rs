//! What each request reads of a cell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use pod_identity_core::cache::Slot;
use pod_identity_core::now::Now;

use super::MARGIN;
use super::fetch::FetchError;
use super::held::{Held, Need};
use crate::clock::Clock;

/// The credentials of a cell, to be read without a lock and without a write to what other threads read.
///
/// An identity cache keeps one for as long as it likes: with it neither a provider stays alive, nor the task that
/// renews.
#[derive(Debug)]
pub(crate) struct Reader {
    slot: Arc<Slot<Held, FetchError>>,
    clock: Clock,
    /// Whether the last fetch failed.
    failing: AtomicBool,
}

/// The identity that is held.
#[derive(Debug)]
pub(crate) struct AtHand {
    pub(crate) identity: Identity,
    /// Which of all fetches of this process brought it.
    pub(crate) serial: u64,
    pub(crate) need: Need,
    pub(crate) now: Now,
}

impl Reader {
    pub(super) fn new(clock: Clock) -> Self {
        Self { slot: Arc::default(), clock, failing: AtomicBool::new(false) }
    }

    pub(super) fn slot(&self) -> &Arc<Slot<Held, FetchError>> {
        &self.slot
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Takes note of whether a fetch failed; says whether the one before did.
    pub(super) fn failed(&self, failed: bool) -> bool {
        self.failing.swap(failed, Ordering::Relaxed)
    }

    /// The identity, where there is one that holds.
    pub(crate) fn identity(&self) -> Option<AtHand> {
        let now = self.now();
        self.peek(now, |held, need| AtHand { identity: held.identity(), serial: held.serial(), need, now })
    }

    /// Whether these credentials with that serial number are not those that are held: somebody has changed them.
    pub(crate) fn differs(&self, serial: u64, given: &Credentials) -> bool {
        let differs = |held: &Held, _| held.serial() == serial && held.credentials() != given;
        self.peek(self.now(), differs).unwrap_or(false)
    }

    /// The credentials, where there are some that hold.
    pub(super) fn credentials(&self, now: Now) -> Option<(Credentials, Need)> {
        self.peek(now, |held, need| (held.credentials().clone(), need))
    }

    /// Whether what is held ends later than that.
    pub(super) fn outlasts(&self, end: SystemTime, now: Now) -> bool {
        self.slot.peek(now, MARGIN, |entry| entry.expiry().wall() > end).unwrap_or(false)
    }

    /// How long it is until the credentials are to be renewed; none where there are no more that hold.
    pub(super) fn due_in(&self, now: Now) -> Duration {
        let due_in = self.slot.peek(now, MARGIN, |entry| entry.value().due_in(entry.expiry().left(now)));
        due_in.unwrap_or_default()
    }

    /// What is seen of what is held, and of what that needs.
    fn peek<R>(&self, now: Now, look: impl FnOnce(&Held, Need) -> R) -> Option<R> {
        self.slot.peek(now, MARGIN, |entry| {
            let held = entry.value();
            let need = match held.need(entry.expiry().left(now)) {
                // Nobody waits for a source that has just failed, while there are credentials.
                Need::Fetch { .. } if self.failing.load(Ordering::Relaxed) => Need::Renewal,
                need => need,
            };
            look(held, need)
        })
    }
}
