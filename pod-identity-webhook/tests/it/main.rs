//! One test binary: the rules of injection, from the API server's question to its answer, and the program itself, by
//! itself and on a real API server.
#![allow(clippy::unwrap_used)]

mod admission; // one review, without HTTP
mod binary; // what is shipped
#[cfg(target_os = "linux")]
mod certificate; // a certificate of its own, on a real API server
mod client_certificate; // reviews that only API servers may send
#[cfg(target_os = "linux")]
mod cluster; // the program as deploy/ has it, on a real API server
#[cfg(target_os = "linux")]
mod gate; // a way to the API server that can be closed
mod hostile; // attacks over sockets
#[cfg(target_os = "linux")]
mod knowledge; // what is known of accounts, with a real API server
mod limits; // sizes and times
mod manifests; // those of deploy/webhook
mod metrics; // what it says of itself
mod require; // who is kept out
mod serving; // requests of all kinds
mod shutdown; // the end
mod webhook; // the whole program, for these
