//! What the crate does as others see it, and what its documents and dependencies say of it.
#![allow(clippy::unwrap_used)]

mod arrows;
mod errors_page;
mod minting;
#[cfg(feature = "service")]
mod service;
mod tokens;
