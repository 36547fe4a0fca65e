//! Limits on open connections and on requests, in total and for each peer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::metrics::register_gauge;

/// Maximum number of connections in their TLS handshake whose peer is at its limit. The handshake shows whether the
/// peer has a client certificate, which exempts it.
const MAX_OVER_LIMIT: usize = 64;
/// Factor of a peer's limits for this machine's own addresses.
const LOCAL_FACTOR: u32 = 4;
/// Descriptors reserved for files, outgoing connections and the admin endpoints.
const RESERVED_DESCRIPTORS: u64 = 256;

/// Limits of one or more listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of open connections. Further connections wait in the kernel's queue. The limit of open
    /// descriptors lowers it, see [`Limits::within_descriptors`].
    pub connections: usize,
    /// Maximum number of open connections of one IP address. Further connections of that address are closed at once.
    /// Connections with a verified client certificate do not count. The limit of this machine's own addresses is four
    /// times as high, because all hostNetwork pods share it.
    pub connections_per_peer: usize,
    /// Maximum number of requests per second of one IP address, with bursts of a quarter of a second. Further requests
    /// are delayed, not refused. 0 means no limit. Connections with a verified client certificate are exempt. The
    /// limit of this machine's own addresses is four times as high.
    pub requests_per_peer: u32,
    /// Maximum time to send a request head, from the start of the connection or from the last response. It is also the
    /// time after which an idle connection is closed.
    pub head: Duration,
    /// Maximum time without progress while a response is written.
    pub write_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Limits {
    /// Limits for listeners that pods and agents reach.
    pub const DEFAULT: Self = Self {
        connections: 4096,
        connections_per_peer: 256,
        requests_per_peer: 1000,
        head: Duration::from_secs(5),
        write_stall: Duration::from_secs(5),
    };
    /// Limits for one machine, where every client has the same address. Only the number of connections is limited.
    pub const ONE_MACHINE: Self =
        Self { connections_per_peer: usize::MAX, requests_per_peer: 0, ..Self::DEFAULT };

    /// Limits for `/healthz`, `/readyz` and `/metrics`: few connections, so that descriptors remain for others.
    pub const ADMIN: Self =
        Self { connections: 64, connections_per_peer: 16, requests_per_peer: 100, ..Self::DEFAULT };

    /// Raises the process's soft limit of open descriptors to its hard limit, as Go programs do. Lowers the number of
    /// connections to the descriptors without 256, or to half of the descriptors if there are fewer than 512.
    #[must_use]
    pub fn within_descriptors(self) -> Self {
        let fits = raise_descriptor_limit().map_or(usize::MAX, |descriptors| {
            let fits = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(descriptors / 2);
            usize::try_from(fits).unwrap_or(usize::MAX)
        });
        if fits < self.connections {
            tracing::warn!(
                connections = fits,
                wanted = self.connections,
                "connection limit lowered: raise the limit of open files (ulimit -n)"
            );
        }
        let connections = self.connections.min(fits);
        // A single peer cannot use all connections.
        let connections_per_peer = match self.connections_per_peer {
            usize::MAX => usize::MAX,
            limit => limit.min((connections / 4).max(1)),
        };
        Self { connections, connections_per_peer, ..self }
    }

    /// Returns the maximum number of connections without a client certificate, on a listener that verifies
    /// certificates. The others are reserved for peers with a certificate.
    fn unverified(&self) -> usize {
        self.connections - self.connections / 8
    }
}

fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// The reason for closing a connection early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// Its peer has too many connections.
    PeerLimit,
    /// Peers without a client certificate have too many connections.
    UnverifiedLimit,
    /// The peer does not read its response.
    WriteStalled,
    /// The TLS handshake failed or took too long.
    Handshake,
}

impl Closed {
    fn as_str(self) -> &'static str {
        match self {
            Self::PeerLimit => "peer_limit",
            Self::UnverifiedLimit => "unverified_limit",
            Self::WriteStalled => "write_stalled",
            Self::Handshake => "handshake",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    reason: &'static str,
}

/// The open connections of one or more listeners. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    start: Instant,
    /// Permits of open connections.
    permits: Arc<Semaphore>,
    open: Mutex<Open>,
    closed: Family<ClosedLabels, Counter>,
}

#[derive(Debug, Default)]
struct Open {
    peers: HashMap<IpAddr, PeerEntry>,
    /// Connections without a verified client certificate, including those whose handshake decides.
    unverified: usize,
    over_limit: usize,
}

#[derive(Debug, Default)]
struct PeerEntry {
    connections: usize,
    request_rate: Arc<RequestRate>,
}

impl Connections {
    /// Makes limits without open connections.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            limits,
            start: Instant::now(),
            permits: Arc::new(Semaphore::new(limits.connections)),
            open: Mutex::default(),
            closed: Family::default(),
        }))
    }

    /// Registers `pod_identity_connections` and `pod_identity_connections_closed_total`.
    pub fn register(&self, registry: &mut Registry) {
        let shared = self.0.clone();
        register_gauge(registry, "pod_identity_connections", "Open connections", move || {
            u64::try_from(shared.limits.connections.saturating_sub(shared.permits.available_permits())).ok()
        });
        // Each counter starts at 0, so that its first increment is visible.
        for reason in [Closed::PeerLimit, Closed::UnverifiedLimit, Closed::WriteStalled, Closed::Handshake] {
            drop(self.0.closed.get_or_create(&ClosedLabels { reason: reason.as_str() }));
        }
        registry.register(
            "pod_identity_connections_closed",
            "Connections closed early: peer_limit, unverified_limit, write_stalled, handshake",
            self.0.closed.clone(),
        );
    }

    /// Returns the limits.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Waits for a permit for one more connection.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.0.permits.clone().acquire_owned().await.ok()
    }

    /// Returns a permit for one more connection, if there is one now.
    pub(super) fn permit_now(&self) -> Option<OwnedSemaphorePermit> {
        self.0.permits.clone().try_acquire_owned().ok()
    }

    /// Counts a connection of `peer`. If the peer is at a limit but may still present a client certificate, the
    /// handshake decides: see [`Permit::settle`].
    ///
    /// # Errors
    /// The limit that the peer has reached.
    pub(super) fn admit(
        &self,
        peer: IpAddr,
        is_local: bool,
        permit: OwnedSemaphorePermit,
        has_client_ca: bool,
    ) -> Result<Permit, Closed> {
        let limits = &self.0.limits;
        let factor = if is_local { LOCAL_FACTOR } else { 1 };
        let mut open = self.0.open();
        if open.peers.len() > limits.connections.saturating_mul(2) {
            let now = self.0.now();
            open.peers.retain(|_, entry| entry.connections > 0 || !entry.request_rate.is_idle(now));
        }
        let full = has_client_ca && open.unverified >= limits.unverified();
        let entry = open.peers.entry(peer).or_default();
        let request_rate = entry.request_rate.clone();
        let over = if entry.connections >= limits.connections_per_peer.saturating_mul(factor as usize) {
            Some(Closed::PeerLimit)
        } else {
            full.then_some(Closed::UnverifiedLimit)
        };
        match over {
            None => {
                entry.connections += 1;
                open.unverified += 1;
            }
            Some(_) if has_client_ca && open.over_limit < MAX_OVER_LIMIT => open.over_limit += 1,
            Some(reason) => {
                drop(open);
                self.count(reason);
                return Err(reason);
            }
        }
        let counted = over.map_or(Counted::AtPeer, Counted::OverLimit);
        let rate = limits.requests_per_peer.saturating_mul(factor);
        Ok(Permit { shared: self.0.clone(), peer, counted, request_rate, rate, _permit: permit })
    }

    pub(super) fn count(&self, reason: Closed) {
        self.0.closed.get_or_create(&ClosedLabels { reason: reason.as_str() }).inc();
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Permit for one open connection; released on drop.
#[derive(Debug)]
pub(super) struct Permit {
    shared: Arc<Shared>,
    peer: IpAddr,
    counted: Counted,
    request_rate: Arc<RequestRate>,
    /// Requests per second; 0 is no limit.
    rate: u32,
    _permit: OwnedSemaphorePermit,
}

/// The group in which a connection is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    AtPeer,
    /// Its peer is at this limit.
    OverLimit(Closed),
    /// It has a verified client certificate.
    Exempt,
}

impl Permit {
    /// Records whether the client presented a verified certificate in the handshake.
    ///
    /// # Errors
    /// The limit that the peer has reached, if it has no certificate.
    pub(super) fn settle(&mut self, has_client_certificate: bool) -> Result<(), Closed> {
        match (has_client_certificate, self.counted) {
            (true, _) => {
                self.release();
                self.counted = Counted::Exempt;
                Ok(())
            }
            (false, Counted::OverLimit(reason)) => Err(reason),
            (false, _) => Ok(()),
        }
    }

    /// Waits until the peer may make one more request.
    pub(super) async fn request(&self) {
        if self.rate == 0 || self.counted == Counted::Exempt {
            return;
        }
        let wait = self.request_rate.reserve(self.shared.now(), self.rate);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn release(&self) {
        let mut open = self.shared.open();
        match self.counted {
            Counted::AtPeer => {
                open.unverified -= 1;
                if let Some(entry) = open.peers.get_mut(&self.peer) {
                    entry.connections -= 1;
                    // The request rate of a peer stays while it is above its limit, even without connections.
                    if entry.connections == 0 && entry.request_rate.is_idle(self.shared.now()) {
                        open.peers.remove(&self.peer);
                    }
                }
            }
            Counted::OverLimit(_) => open.over_limit -= 1,
            Counted::Exempt => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

/// A rate limit with a burst of a quarter of a second: the generic cell rate algorithm (ITU-T I.371). It stores the
/// time of the next request at a constant rate, in nanoseconds.
#[derive(Debug, Default)]
struct RequestRate(AtomicU64);

impl RequestRate {
    /// Reserves the next request and returns the time to wait for it.
    fn reserve(&self, now: u64, rate: u32) -> Duration {
        const SECOND: u64 = 1_000_000_000;
        let interval = SECOND / u64::from(rate);
        let next = |expected: u64| expected.max(now).saturating_add(interval);
        let before =
            self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |expected| Some(next(expected)));
        let reserved = next(before.unwrap_or_else(|unchanged| unchanged));
        Duration::from_nanos(reserved.saturating_sub(now).saturating_sub(SECOND / 4))
    }

    fn is_idle(&self, now: u64) -> bool {
        self.0.load(Ordering::Acquire) <= now
    }
}

#[cfg(test)]
mod tests;
