//! The provider as programs use it, with the real agent and auth service and strict fakes of AWS.

#![allow(clippy::unwrap_used)]

mod cluster; // a cluster with one pod, and an agent that can be killed
mod log; // the log lines of all levels
mod replay; // an endpoint that follows a script and checks the requests
mod script; // responses of an endpoint of AWS

mod cases; // cases in folders: the responses of an endpoint, and the result
mod attempts; // changes between attempts, and a missing agent
mod printed; // errors as programs print them, and the warnings at start
mod no_runtime; // requests outside a tokio runtime
mod side_by_side; // the same endpoints with this crate and with the SDK's own provider
#[cfg(feature = "https")]
mod https; // endpoints with a certificate
mod chosen; // the chosen method, and the error where there is none
mod rotations; // sessions expire and the agent dies while a client runs
#[cfg(feature = "irsa")]
mod web_identity; // IRSA
