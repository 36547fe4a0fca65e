//! Tests of the auth service over real sockets, with the issuer and the STS of `pod-identity-local`.
#![allow(clippy::unwrap_used)]

mod admin;
mod agents;
mod audit;
mod binary;
mod cache;
mod clusters;
mod reload;
mod sessions;
mod test_auth;
mod upstream;
