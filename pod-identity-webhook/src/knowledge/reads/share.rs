//! Limits the reads that each peer may begin: a rate with a burst (GCRA, ITU-T I.371).

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

/// The shares of all peers.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Time at which each peer has its whole burst again.
    whole_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl Shares {
    /// Takes one read from a peer's limit, if any is left.
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
    fn a_peer_begins_its_burst_and_its_rate_and_takes_nothing_from_another() {
        let (shares, start) = (Shares::default(), Instant::now());
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        // 10,000 attempts in 8 s.
        let taken =
            (0..10_000_u32).filter(|number| shares.take(one, start + *number * Duration::from_micros(800)));
        let taken = taken.count();
        assert!((995..=1_001).contains(&taken), "{taken}");
        let end = start + Duration::from_secs(8);
        assert!((0..BURST).all(|_| shares.take(other, end)));
        assert!(!shares.take(other, end));
        assert!(shares.take(other, end + EVERY));
    }

    #[test]
    fn peers_are_remembered_up_to_a_bound() {
        let (shares, now) = (Shares::default(), Instant::now());
        for number in 0..3 * u32::try_from(PEERS).unwrap() {
            assert!(shares.take(IpAddr::from(number.to_be_bytes()), now));
        }
        assert!(shares.whole_at.lock().unwrap().len() <= PEERS);
    }
}
