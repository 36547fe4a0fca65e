//! The auth service over real sockets, between an issuer and an STS that refuse what the real ones do.
#![allow(clippy::unwrap_used)]

mod admin;
mod agents;
mod audit;
mod binary;
mod cache;
mod clusters;
mod reload;
mod sessions;
mod stand;
mod upstream;
