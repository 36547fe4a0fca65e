//! Tests of the shared parts over real sockets.
#![allow(clippy::unwrap_used)]

mod issuer_keys;
mod listener;
mod outbound;
mod servers;
mod tls;
