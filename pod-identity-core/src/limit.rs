//! Budgets of calls to the upstream: one pod's nonsense delays no other pod, and a restart of an agent
//! is over before anybody's patience.
//!
//! What is asked for by a client that waits is *demand*. It passes three gates, in this order, and
//! after the last one calls:
//!
//! ```text
//! place   of its peer: how many may wait; beyond, it is refused at once ([`Crowded`])
//! call    one of those that may be under way, all together; for a token that nobody has
//!         accepted, a credit of its peer too
//! turn    none to wait for, until the upstream asks for fewer calls
//! ```
//!
//! A token that nobody has accepted takes a credit of its peer for as long as its call lasts, and two
//! seconds more where it is refused. So a peer that sends junk gets four calls a second, and most of
//! the calls that may be under way are for the others. Acceptance gives the credit back at once: 250
//! pods of 250 addresses are limited by nothing but the number of calls under way.
//!
//! Renewals ahead of an end can wait. They take what demand leaves, at a pace of their own
//! ([`Limits::renewal`]).
//!
//! Like the cache, this has no task, timer or clock: whoever embeds it passes the time, sleeps where a
//! turn is still to come, and keeps a refused token's credit until its time ([`Held`]).
//!
//! ```
//! use std::time::Duration;
//!
//! use pod_identity_core::cache::Effect;
//! use pod_identity_core::limit::{Budgets, Limits, Peer};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! # let start = tokio::time::Instant::now();
//! let now = || start.elapsed(); // a monotonic clock
//! let limits = Limits::new(Budgets::default());
//!
//! let pod = Peer::Remote("192.0.2.1".parse().unwrap());
//! let Ok(place) = limits.unaccepted(pod) else { return /* 503, Retry-After */ };
//! let call = place.call().await;
//! let deadline = now() + Duration::from_secs(10);
//! let began = call.turn(deadline, now, tokio::time::sleep).await.unwrap();
//! // ... ask the upstream. Where it answers 429:
//! limits.throttled(began, Some(Duration::from_secs(2)), now());
//! // Where it refuses the token:
//! if let Some(held) = call.end(Some(Effect::RefusesToken), now()) {
//!     let left = held.until().saturating_sub(now());
//!     tokio::spawn(async move {
//!         tokio::time::sleep(left).await;
//!         drop(held);
//!     });
//! }
//! # });
//! ```

mod budgets;
mod calls;
mod pace;
mod rate;
#[cfg(test)]
mod tests;

pub use budgets::{Budgets, Share};
pub use calls::{Call, Crowded, Held, Limits, Peer, Place, Renewal, Throttled};
