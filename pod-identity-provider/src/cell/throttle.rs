//! One request per second does the work of all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pod_identity_core::time::Now;

/// The shortest time between two looks at a renewal.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Allows one request per second. The other requests read the time and write nothing.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// The time of the next allowed request, in milliseconds of the monotonic clock.
    next: AtomicU64,
}

impl Throttle {
    /// Whether this request is the one of its second.
    pub(super) fn allows(&self, now: Now) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        let after = millis(now.monotonic.saturating_add(INTERVAL));
        millis(now.monotonic) >= next
            && self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
