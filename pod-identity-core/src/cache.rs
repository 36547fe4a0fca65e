//! The credential cache: a state machine without clock, tasks and I/O.
//!
//! [`CredentialCache`] maps tokens to identities, and identities to credentials. A request takes these steps:
//!
//! ```text
//! hit        serve the credentials of a known token, without a lock
//! refusal    serve the recent error of the token
//! known      get the identity of a known token, or verify the token
//! begin ─►   Hit, Stale   serve these credentials
//!            Refused      serve this error; the next call must wait
//!            Wait         wait for the flight of another request
//!            Lead         call the upstream, complete the flight, and wait like the others
//! ```
//!
//! A token that neither keys nor the upstream have verified has its own flight. So a forged token reaches no
//! credentials and joins no flight. [`SessionCache`] is the keyed cache alone, for callers that verify tokens
//! themselves. [`Slot`] is a single entry.
#![cfg_attr(loom, allow(dead_code))] // loom runs only the tests of `interleavings`

#[cfg_attr(not(feature = "verify"), allow(dead_code))] // renewals need tokens
mod entry;
mod flight;
mod map;
mod session_cache;
mod slot;
#[cfg(feature = "verify")]
mod credential_cache;
#[cfg(feature = "verify")]
mod leader;
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
pub use credential_cache::{Begin, CredentialCache, Due};
pub use entry::{Entry, Serving};
pub use flight::{Waited, Waiter};
#[cfg(feature = "verify")]
pub use leader::{Issued, Leader, UnusableResponse};
pub use session_cache::{SessionCache, SessionCacheConfig};
pub use slot::{Slot, SlotBegin, SlotLeader};
#[cfg(feature = "verify")]
pub use state::CacheConfig;
