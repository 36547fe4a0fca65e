//! Tokens of a real issuer, real keys, real signatures: one is accepted, every other kind is refused.
#![allow(clippy::unwrap_used)]

mod arrows;
mod errors_page;
mod tokens;
