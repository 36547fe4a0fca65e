//! A limit on the log lines that one peer can cause.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::writer::count_suppressed;
use crate::shutdown::Shutdown;

/// Number of lines of one peer and error code in a burst.
const BURST: u32 = 10;
/// Time after which one more line is allowed.
const INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of peers and codes with a separate limit. Beyond it, peers share one limit for each code.
const MAX_KEYS: usize = 4096;
/// The peer of the shared limit beyond [`MAX_KEYS`].
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Limits the lines about refused requests: for each peer and error code, a burst of 10 and then one every 10 s.
/// Clones share the limit.
///
/// It is for lines that a peer can cause without limit. Audit lines and state changes are not limited.
///
/// ```
/// # use std::net::IpAddr;
/// # use pod_identity_runtime::logs::LogLimiter;
/// let limiter = LogLimiter::default();
/// let peer: IpAddr = "192.0.2.1".parse().unwrap();
/// limiter.log(peer, "token_malformed", |suppressed| tracing::warn!(%peer, suppressed, "request refused"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct LogLimiter(Arc<Mutex<HashMap<(IpAddr, &'static str), Bucket>>>);

#[derive(Debug)]
struct Bucket {
    tokens: u32,
    /// Time of the last added token.
    filled: Instant,
    /// Number of lines suppressed since the last line.
    suppressed: u64,
}

impl LogLimiter {
    /// Calls `write` with the number of suppressed lines since the last one, unless the peer is above its limit.
    pub fn log(&self, peer: IpAddr, code: &'static str, write: impl FnOnce(u64)) {
        match self.admit(peer, code) {
            Some(suppressed) => write(suppressed),
            None => count_suppressed(),
        }
    }

    fn admit(&self, peer: IpAddr, code: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !buckets.contains_key(&(peer, code));
        let peer = if is_new && buckets.len() >= MAX_KEYS { OTHERS } else { peer };
        let full = Bucket { tokens: BURST, filled: now, suppressed: 0 };
        let bucket = buckets.entry((peer, code)).or_insert(full);
        bucket.fill(now);
        if bucket.tokens == 0 {
            bucket.suppressed += 1;
            return None;
        }
        bucket.tokens -= 1;
        Some(std::mem::take(&mut bucket.suppressed))
    }

    /// Every 10 s until the shutdown, logs the number of suppressed lines of peers that have become silent, and
    /// forgets those peers.
    pub async fn follow(self, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.asked() => return self.report(),
                () = tokio::time::sleep(INTERVAL) => self.report(),
            }
        }
    }

    fn report(&self) {
        let now = Instant::now();
        let mut silent = Vec::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(peer, code), bucket| {
            bucket.fill(now);
            if bucket.tokens > 0 && bucket.suppressed > 0 {
                bucket.tokens -= 1;
                silent.push((*peer, *code, std::mem::take(&mut bucket.suppressed)));
            }
            bucket.tokens < BURST
        });
        for (peer, code, lines) in silent {
            tracing::warn!(%peer, code, lines, "log lines suppressed");
        }
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let due = now.duration_since(self.filled).as_secs() / INTERVAL.as_secs();
        let due = u32::try_from(due).unwrap_or(BURST).min(BURST);
        if self.tokens + due >= BURST {
            (self.tokens, self.filled) = (BURST, now);
        } else {
            self.tokens += due;
            self.filled += INTERVAL * due;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u16) -> IpAddr {
        let [high, low] = last.to_be_bytes();
        Ipv4Addr::new(198, 18, high, low).into()
    }

    #[tokio::test(start_paused = true)]
    async fn limits_lines_by_peer_and_code_and_counts_suppressed_ones() {
        let limiter = LogLimiter::default();
        let written = (0..5000).filter(|_| limiter.admit(peer(1), "flood").is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(limiter.admit(peer(2), "flood"), Some(0), "another peer");
        assert_eq!(limiter.admit(peer(1), "other"), Some(0), "another code");
        tokio::time::advance(INTERVAL).await;
        assert_eq!(limiter.admit(peer(1), "flood"), Some(4990));
        assert_eq!(limiter.admit(peer(1), "flood"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn reports_suppressed_lines_of_a_silent_peer_and_forgets_it() {
        let limiter = LogLimiter::default();
        for _ in 0..50 {
            limiter.admit(peer(1), "flood");
        }
        tokio::time::advance(INTERVAL).await;
        limiter.report();
        assert_eq!(limiter.0.lock().unwrap()[&(peer(1), "flood")].suppressed, 0);
        tokio::time::advance(INTERVAL * BURST).await;
        limiter.report();
        assert!(limiter.0.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_for_any_number_of_peers() {
        let limiter = LogLimiter::default();
        let written = (0..20_000).filter(|last| limiter.admit(peer(*last), "flood").is_some()).count();
        assert!(limiter.0.lock().unwrap().len() <= MAX_KEYS + 1);
        assert_eq!(written, MAX_KEYS + BURST as usize);
    }
}
