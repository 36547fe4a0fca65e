//! Limits repeated log lines.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines of one key.
const PAUSE: Duration = Duration::from_secs(60);

/// Allows one log line per key and minute, and counts the others. Metrics count each event.
///
/// Keys must come from a small set: they are never forgotten.
#[derive(Debug)]
pub(crate) struct RepeatLimiter<K>(Mutex<HashMap<K, Lines>>);

#[derive(Debug)]
struct Lines {
    last: Instant,
    suppressed: u64,
}

impl<K> Default for RepeatLimiter<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> RepeatLimiter<K> {
    /// Returns the number of lines suppressed since the last line, if a line may be written now.
    pub(crate) fn allow(&self, key: K, now: Instant) -> Option<u64> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.get_mut(&key) {
            Some(lines) if now.saturating_duration_since(lines.last) < PAUSE => {
                lines.suppressed += 1;
                None
            }
            Some(lines) => {
                lines.last = now;
                Some(std::mem::take(&mut lines.suppressed))
            }
            None => {
                keys.insert(key, Lines { last: now, suppressed: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_one_line_per_key_and_minute_and_counts_the_others() {
        let (limiter, start) = (RepeatLimiter::default(), pod_identity_runtime::clock::monotonic());
        let allow = |key, seconds| limiter.allow(key, start + Duration::from_secs(seconds));
        assert_eq!(allow("deadline", 0), Some(0));
        assert_eq!(allow("deadline", 1), None);
        assert_eq!(allow("connection", 59), Some(0));
        assert_eq!(allow("deadline", 59), None);
        assert_eq!(allow("deadline", 60), Some(2));
        assert_eq!(allow("deadline", 119), None);
        assert_eq!(allow("connection", 119), Some(0));
        assert_eq!(allow("deadline", 120), Some(1));
    }
}
