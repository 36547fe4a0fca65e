//! Limits of upstream calls, so that invalid tokens of one pod do not delay other pods.
//!
//! A call for a waiting request passes three limits:
//!
//! ```text
//! queue    limits the waiting requests of a peer with unverified tokens; further ones are refused at once
//! permit   limits the concurrent calls; the call of an unverified token also needs a credit of its peer
//! rate     limits the calls per second, after the upstream has requested fewer calls
//! ```
//!
//! An unverified token uses a credit of its peer during its call, and for [`UpstreamLimits::hold`] longer if the upstream
//! refuses the token. If the upstream accepts it, the credit is free at once, so 250 pods of 250 addresses share all calls.
//! While requests wait for the rate limit, no renewal begins.
//!
//! ```
//! use pod_identity_core::service::{PeerLimits, UpstreamLimits};
//!
//! let mut limits = UpstreamLimits::default();
//! limits.calls = 128;
//! limits.remote = PeerLimits::new(4, 64);
//! ```

mod config;
mod calls;
mod rate;
mod renewal_rate;
#[cfg(test)]
mod tests;

pub use calls::Peer;
pub(super) use calls::{Call, CreditHold, Limits, QueuedCall, Renewal};
#[cfg(test)]
use calls::{QueueFull, Throttled};
pub use config::{PeerLimits, UpstreamLimits};
