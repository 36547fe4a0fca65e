//! Credentials by identity: read without a lock, fetched once for everybody who waits.
//!
//! A state machine without tasks, timers, sockets or clocks: [`CredentialCache::begin`] says what a
//! request is to do, and whoever embeds the cache does it.
//!
//! ```text
//! begin ─► Hit      serve these credentials
//!       ─► Refused  serve this error; it is too fresh to ask again
//!       ─► Wait     somebody is fetching: wait with them
//!       ─► Lead     fetch, and complete; then wait like the others
//! ```
//!
//! [`SessionCache`] is the map alone, for whoever verifies each token before it asks; it also says how
//! long what it holds is fresh.
//!
//! No credentials are read before the token is known to be good: `begin` looks a token up by its
//! digest, and one that it does not know goes through `verify` first. Verified by keys, the token leads
//! straight to its identity's credentials; where there are no keys, the upstream's acceptance of that
//! very token does, and until then its flight is its own: a forger joins nobody.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use pod_identity_core::cache::{
//!     Begin, CacheConfig, CredentialCache, Effect, Expires, Issued, Refusal, UnusableAnswer,
//! };
//! use pod_identity_core::now::Now;
//! use pod_identity_core::token::BearerToken;
//!
//! struct Credentials { expires_at: SystemTime }
//! impl Expires for Credentials {
//!     fn expires_at(&self) -> SystemTime { self.expires_at }
//! }
//! struct Unavailable;
//! impl Refusal for Unavailable {
//!     fn effect(&self) -> Effect { Effect::CannotAsk }
//! }
//! impl From<UnusableAnswer> for Unavailable {
//!     fn from(_: UnusableAnswer) -> Self { Self }
//! }
//!
//! let cache: CredentialCache<&str, Credentials, Unavailable> = CredentialCache::new(CacheConfig::default());
//! let now = Now { wall: SystemTime::UNIX_EPOCH, monotonic: Duration::ZERO };
//! let token = BearerToken::parse("a.pods.token").unwrap();
//! let hour = now.wall + Duration::from_secs(3600);
//!
//! // The first request leads; what it is given, everybody who waits gets.
//! let Ok(Begin::Lead(lead, _waiter)) = cache.begin(&token, now, || Ok::<_, ()>(None)) else { panic!() };
//! assert!(matches!(cache.begin(&token, now, || Ok::<_, ()>(None)), Ok(Begin::Wait(_))));
//! lead.complete(now, Ok(Issued {
//!     identity: "pod 1",
//!     token_expires_at: hour,
//!     value: Credentials { expires_at: hour },
//! }));
//! assert!(matches!(cache.begin(&token, now, || Ok::<_, ()>(None)), Ok(Begin::Hit(_))));
//! ```
#![cfg_attr(loom, allow(dead_code))] // what only the other tests use, which do not run then

// Without `verify` the map is there, and not the cache of tokens that uses all of it.

#[cfg_attr(not(feature = "verify"), allow(dead_code))] // only what knows tokens renews
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
mod tokens;
#[cfg(all(test, feature = "verify", loom))]
mod interleavings;
#[cfg(all(test, feature = "verify", not(loom)))]
mod tests;

#[cfg(feature = "verify")]
pub use by_identity::{Begin, CacheConfig, CredentialCache, Due};
pub use entry::{Entry, Expires, Serving};
pub use flight::{Denied, Waited, Waiter};
#[cfg(feature = "verify")]
pub use lead::{Issued, Lead, UnusableAnswer};
pub use sessions::{Origin, Served, SessionCache, SessionCacheConfig};
pub use slot::{Slot, SlotBegin, SlotLead};

/// What an upstream's refusal means for what is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The token is no good. Other tokens of the identity may be; its credentials stay.
    RefusesToken,
    /// The identity has no role (any more): its credentials are dropped.
    RefusesIdentity,
    /// The same, from an upstream whose one answer may be wrong (EKS is eventually consistent): it
    /// counts when it is repeated after 30 s.
    DoubtsIdentity,
    /// The call failed: the upstream is down, throttles, or does not accept the caller. Credentials
    /// stay, and the upstream is called again after at most a second.
    CannotAsk,
    /// The upstream issued credentials that cannot be used, and another call will soon bring the same.
    /// Credentials stay; the pauses between calls grow to 30 s.
    CannotUse,
}

impl Effect {
    /// Whether it leaves credentials from an earlier answer in use.
    fn keeps_credentials(self) -> bool {
        matches!(self, Self::CannotAsk | Self::CannotUse)
    }
}

/// An error of the upstream.
pub trait Refusal: Send + Sync + 'static {
    /// What it means.
    fn effect(&self) -> Effect;
}
