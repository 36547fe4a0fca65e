//! What one request in a while does for all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pod_identity_core::now::Now;

/// How often, at most, somebody looks after a renewal.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Lets one request through every second. The others read it and write nothing.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// When it opens again, in milliseconds of the monotonic clock.
    opens: AtomicU64,
}

impl Gate {
    /// Whether this request is the one.
    pub(crate) fn lets_through(&self, now: Now) -> bool {
        let opens = self.opens.load(Ordering::Relaxed);
        let again = millis(now.monotonic.saturating_add(LOOK));
        millis(now.monotonic) >= opens
            && self.opens.compare_exchange(opens, again, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
