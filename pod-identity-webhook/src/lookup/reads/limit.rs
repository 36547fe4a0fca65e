//! Limits the reads of each peer: a rate with a burst (GCRA, ITU-T I.371).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Minimum time between two reads of a peer after its burst: 100 per second. One API server creates some tens of pods
/// per second, and pods of one service account share reads.
const EVERY: Duration = Duration::from_millis(10);
/// Number of reads that a peer may begin at once after a pause.
const BURST: u32 = 200;
/// Maximum number of remembered peers. Beyond it, peers with their whole burst left are forgotten, then all.
const PEERS: usize = 4_096;

/// The limits of all peers.
#[derive(Debug, Default)]
pub(super) struct ReadLimits {
    /// Time at which each peer has its whole burst again.
    whole_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl ReadLimits {
    /// Takes one read from a peer's limit. Returns whether one was left.
    pub(super) fn take(&self, peer: IpAddr, now: Instant) -> bool {
        let mut peers = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, whole_at| *whole_at > now);
            if peers.len() >= PEERS {
                peers.clear();
            }
        }
        let whole_at = peers.entry(peer).or_insert(now);
        let next = (*whole_at).max(now) + EVERY;
        let is_left = next <= now + EVERY * BURST;
        if is_left {
            *whole_at = next;
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_burst_and_rate_of_each_peer_apart() {
        let (limits, start) = (ReadLimits::default(), Instant::now());
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        // 10,000 attempts in 8 s.
        let taken =
            (0..10_000_u32).filter(|number| limits.take(one, start + *number * Duration::from_micros(800)));
        let taken = taken.count();
        assert!((995..=1_001).contains(&taken), "{taken}");
        let end = start + Duration::from_secs(8);
        assert!((0..BURST).all(|_| limits.take(other, end)));
        assert!(!limits.take(other, end));
        assert!(limits.take(other, end + EVERY));
    }

    #[test]
    fn bounds_the_number_of_peers() {
        let (limits, now) = (ReadLimits::default(), Instant::now());
        for number in 0..3 * u32::try_from(PEERS).unwrap() {
            assert!(limits.take(IpAddr::from(number.to_be_bytes()), now));
        }
        assert!(limits.whole_at.lock().unwrap().len() <= PEERS);
    }
}
