//! The settings of the limits.

use std::time::Duration;

/// Limits of the calls to one upstream. The defaults are for a node with some hundred pods and an upstream that
/// responds in about 50 ms.
///
/// ```
/// let mut limits = pod_identity_core::service::UpstreamLimits::default();
/// limits.renewals_per_second = 10.0;
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct UpstreamLimits {
    /// Maximum number of concurrent calls for waiting requests; default 64.
    pub calls: usize,
    /// Maximum number of those calls for unverified tokens; default 48. The others are reserved for verified tokens.
    pub unaccepted_calls: usize,
    /// Maximum number of concurrent renewals, in addition to `calls`; default 8.
    pub renewals: usize,
    /// Renewals per second; default 3. The service renews faster if its entries need it.
    pub renewals_per_second: f64,
    /// Limits of each remote address; default 8 credits and 256 waiting requests.
    pub remote: PeerLimits,
    /// Limits of all addresses of this machine together, for pods in the host's network; default 32 credits and 1,024
    /// waiting requests.
    pub local: PeerLimits,
    /// Time for which a refused token keeps the credit of its peer; default 2 s.
    pub hold: Duration,
}

/// Limits of the unverified tokens of one peer.
///
/// ```
/// let limits = pod_identity_core::service::PeerLimits::new(8, 256);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerLimits {
    /// Maximum number of concurrent calls.
    pub credits: usize,
    /// Maximum number of further requests that wait. Beyond it, requests are refused at once.
    pub waiting: usize,
}

impl PeerLimits {
    /// Makes the limits of a peer: concurrent calls, and further requests that wait.
    pub fn new(credits: usize, waiting: usize) -> Self {
        Self { credits, waiting }
    }
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            calls: 64,
            unaccepted_calls: 48,
            renewals: 8,
            renewals_per_second: 3.0, // --max-service-qps of AWS's agent
            remote: PeerLimits { credits: 8, waiting: 256 },
            local: PeerLimits { credits: 32, waiting: 1024 },
            hold: Duration::from_secs(2),
        }
    }
}
