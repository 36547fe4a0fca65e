//! The public API of the provider, with the real agent and auth service and strict fakes of AWS.

#![allow(clippy::unwrap_used)]

mod cluster; // a local cluster with one pod, and an agent that can be killed
mod log; // captured log lines
mod replay; // a scripted endpoint that checks the requests
mod script; // a scripted HTTP client for STS

mod cases; // test cases in files: environment, HTTP traffic and expected result
mod attempts; // retries, and a missing agent
mod printed; // printed errors, and warnings at start
mod no_runtime; // requests outside a tokio runtime
mod side_by_side; // comparison with the SDK's provider
#[cfg(feature = "https")]
mod https; // https endpoints
mod method; // choice of the method
mod rotations; // renewals while the agent is killed and restarted
#[cfg(feature = "irsa")]
mod web_identity; // IRSA
