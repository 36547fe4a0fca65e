//! Tests of the webhook: single reviews, the running program over TLS, and the program with a real API server.
#![allow(clippy::unwrap_used)]

mod admission; // single reviews, without HTTP
mod binary; // the shipped binary
#[cfg(target_os = "linux")]
mod certificate; // a certificate of its own, on a real API server
mod client_certificate; // reviews with client certificates
#[cfg(target_os = "linux")]
mod cluster; // the program as deploy/ has it, on a real API server
mod hostile; // attacks by a pod
#[cfg(target_os = "linux")]
mod lookup; // lookups with a real API server
mod limits; // sizes and times of bodies and connections
mod manifests; // those of deploy/webhook
mod metrics; // docs/reference/metrics.md
#[cfg(target_os = "linux")]
mod proxy; // a proxy to the API server that can stall or refuse
#[cfg(target_os = "linux")]
mod reports; // the subcommand report, with a real API server
mod require; // pods that are refused
mod serving; // requests and responses
mod shutdown; // reviews during the shutdown
mod webhook; // a running webhook and its clients
