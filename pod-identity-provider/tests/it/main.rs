//! The provider as programs use it: against the real agent and auth service, and strict fakes of AWS.

#![allow(clippy::unwrap_used)]

mod cluster; // a cluster with one pod, and an agent that can be killed
mod log; // what is logged, at all levels
mod replay; // an endpoint that answers as it is told, and minds what it is asked
mod script; // answers of an endpoint of AWS

mod cases; // an endpoint's answers and what comes of them, a folder each
mod attempts; // what changes between attempts, and where there is no agent
mod no_runtime; // and where there is no tokio runtime
mod side_by_side; // the same endpoints, asked by this crate and by the SDK's own provider
#[cfg(feature = "https")]
mod https; // endpoints with a certificate
mod chosen; // which way is taken, and what is said where there is none
mod rotations; // sessions end, and the agent dies, while a client runs
#[cfg(feature = "irsa")]
mod web_identity; // IRSA
