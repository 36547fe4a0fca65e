//! Tests of the agent over real sockets, in this process and as the binary.
#![allow(clippy::unwrap_used)]

mod agent;
mod binary;
mod herd;
#[cfg(target_os = "linux")]
mod junk;
mod keys;
mod outage;
mod readiness;
mod renewals;
mod requests;
mod upstream;
mod wire;
