//! The budgets, as numbers.

use std::time::Duration;

/// The budgets, as numbers. Their defaults are those of a node: some hundred pods, and an upstream that
/// answers in about 50 ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budgets {
    /// Calls of demand under way, all together.
    pub calls: usize,
    /// Those of them for tokens that nobody has accepted. The others stay free for tokens that are known.
    pub unaccepted_calls: usize,
    /// Renewals under way, beside the calls of demand.
    pub renewals: usize,
    /// Renewals begun in a second, at least; see [`Limits::renewal`](super::Limits::renewal).
    pub renewals_per_second: f64,
    /// What each remote peer has.
    pub remote: Share,
    /// What all addresses of this machine have together: pods in the host's network.
    pub local: Share,
    /// How long a refused token keeps its credit.
    pub hold: Duration,
}

/// A peer's part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Calls under way for tokens that nobody has accepted.
    pub credits: usize,
    /// Further ones that may wait.
    pub waiting: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            calls: 64,
            unaccepted_calls: 48,
            renewals: 8,
            renewals_per_second: 3.0, // --max-service-qps of AWS's agent
            remote: Share { credits: 8, waiting: 256 },
            local: Share { credits: 32, waiting: 1024 },
            hold: Duration::from_secs(2),
        }
    }
}
