//! Limits of upstream calls: one pod's junk delays no other pod.
//!
//! A call for a waiting request passes three gates:
//!
//! ```text
//! place   a peer may have so many unverified tokens waiting; further ones are refused at once
//! call    a permit of all calls; for an unverified token, a credit of its peer too
//! turn    none to wait for, until the upstream asks for fewer calls
//! ```
//!
//! An unverified token takes a credit of its peer while its call lasts, and [`UpstreamLimits::hold`] longer if the upstream
//! refuses the token. Acceptance returns the credit at once, so 250 pods of 250 addresses share all calls. Renewals take what
//! waiting requests leave.
//!
//! ```
//! use pod_identity_core::service::{PeerLimits, UpstreamLimits};
//!
//! let mut limits = UpstreamLimits::default();
//! limits.calls = 128;
//! limits.remote = PeerLimits::new(4, 64);
//! ```

mod budgets;
mod calls;
mod pace;
mod rate;
#[cfg(test)]
mod tests;

pub use budgets::{PeerLimits, UpstreamLimits};
pub use calls::Peer;
pub(super) use calls::{Call, Held, Limits, Place, Renewal};
#[cfg(test)]
use calls::{Crowded, Throttled};
