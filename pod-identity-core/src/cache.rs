//! The cache of credentials: a state machine without clock, tasks and I/O.
//!
//! [`CredentialCache`] maps tokens to identities and identities to credentials. A caller makes a request in these steps:
//!
//! ```text
//! hit        serve the credentials of a known token, without a lock
//! refusal    serve the error that the token got a moment ago
//! known      the identity of a known token; otherwise verify the token
//! begin ─►   Hit, Stale   serve these credentials
//!            Refused      serve this error; it is too early for another call
//!            Wait         wait for the flight of another request
//!            Lead         call the upstream, complete the lead, and wait like the others
//! ```
//!
//! A token that neither keys nor the upstream have verified has a flight of its own, so a forged token reaches no
//! credentials and joins no flight. [`SessionCache`] is the map of identities alone, for callers that verify tokens
//! themselves, and [`Slot`] is a single entry.
#![cfg_attr(loom, allow(dead_code))] // used by tests that do not run then

#[cfg_attr(not(feature = "verify"), allow(dead_code))] // renewals need tokens
mod entry;
mod flight;
mod map;
mod sessions;
mod slot;
#[cfg(feature = "verify")]
mod by_identity;
#[cfg(feature = "verify")]
mod lead;
#[cfg(feature = "verify")]
mod state;
#[cfg(feature = "verify")]
mod tokens;
#[cfg(all(test, feature = "verify"))]
mod requests;
#[cfg(all(test, feature = "verify", loom))]
mod interleavings;
#[cfg(all(test, feature = "verify", not(loom)))]
mod tests;

#[cfg(feature = "verify")]
pub use by_identity::{Begin, CredentialCache, Due};
pub use entry::{Entry, Serving};
pub use flight::{Waited, Waiter};
#[cfg(feature = "verify")]
pub use lead::{Issued, Lead, UnusableAnswer};
pub use sessions::{SessionCache, SessionCacheConfig};
pub use slot::{Slot, SlotBegin, SlotLead};
#[cfg(feature = "verify")]
pub use state::CacheConfig;
