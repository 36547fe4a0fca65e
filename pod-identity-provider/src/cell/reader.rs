//! What each request reads of a cell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use pod_identity_core::cache::Slot;
use pod_identity_core::now::Now;

use super::fetch::Failure;
use super::held::Held;
use super::{LOOK, MARGIN};
use crate::clock::Clock;

/// The credentials of a cell, to be read without a lock and without a write to what other threads read.
///
/// An identity cache keeps one for as long as it likes: with it neither a provider stays alive, nor the task that
/// renews.
#[derive(Debug)]
pub(crate) struct Reader {
    slot: Arc<Slot<Held, Failure>>,
    clock: Clock,
    /// When requests see to a renewal again, in milliseconds of the monotonic clock.
    looks_again: AtomicU64,
}

impl Reader {
    pub(super) fn new(clock: Clock) -> Self {
        Self { slot: Arc::default(), clock, looks_again: AtomicU64::new(0) }
    }

    pub(super) fn slot(&self) -> &Arc<Slot<Held, Failure>> {
        &self.slot
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// The identity of the credentials with that serial number. None where there are newer ones, where they have
    /// ended, and once in a while where they are due: whoever asks is to ask their provider then, which sees to that.
    pub(crate) fn identity(&self, serial: u64) -> Option<Identity> {
        let now = self.now();
        self.peek(now, |held, due| {
            (held.serial() == serial && !(due && self.is_to_look(now))).then(|| held.identity())
        })?
    }

    /// Whether these credentials with that serial number are not those that are held: somebody has changed them.
    pub(crate) fn differs(&self, serial: u64, given: &Credentials) -> bool {
        let differs = |held: &Held, _| held.serial() == serial && held.credentials() != given;
        self.peek(self.now(), differs).unwrap_or(false)
    }

    /// The credentials, and whether they are due.
    pub(super) fn credentials(&self, now: Now) -> Option<(Credentials, bool)> {
        self.peek(now, |held, due| (held.credentials().clone(), due))
    }

    /// How long it is until the credentials are to be renewed; none where there are no more that hold.
    pub(super) fn due_in(&self, now: Now) -> Duration {
        let due_in = self.slot.peek(now, MARGIN, |entry| entry.value().due_in(entry.expiry().left(now)));
        due_in.unwrap_or_default()
    }

    /// What is seen of what is held, and of whether that is due.
    fn peek<R>(&self, now: Now, look: impl FnOnce(&Held, bool) -> R) -> Option<R> {
        self.slot.peek(now, MARGIN, |entry| {
            let held = entry.value();
            look(held, held.due_in(entry.expiry().left(now)).is_zero())
        })
    }

    /// Whether this request is the one of this second that looks after the renewal.
    pub(super) fn looks(&self, now: Now) -> bool {
        let due = self.looks_again.load(Ordering::Relaxed);
        let again = millis(now.monotonic.saturating_add(LOOK));
        millis(now.monotonic) >= due
            && self.looks_again.compare_exchange(due, again, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether there is such a request to be.
    fn is_to_look(&self, now: Now) -> bool {
        millis(now.monotonic) >= self.looks_again.load(Ordering::Relaxed)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
