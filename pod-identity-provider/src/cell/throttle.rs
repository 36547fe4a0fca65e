//! A limit of one request per second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pod_identity_core::time::Now;

/// The shortest time between two allowed requests.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Allows one request per second. A request that is not allowed writes to no shared memory.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// The time of the next allowed request, in milliseconds of the monotonic clock.
    next: AtomicU64,
}

impl Throttle {
    /// Returns whether this request is allowed.
    pub(super) fn allows(&self, now: Now) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        let following = millis(now.monotonic.saturating_add(INTERVAL));
        millis(now.monotonic) >= next
            && self.next.compare_exchange(next, following, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
