//! The node daemon of EKS Pod Identity: hands a pod the credentials of its role.
//!
//! A pod's SDK asks `GET /v1/credentials` with its service account token; the agent exchanges the
//! token at EKS Auth ([`exchange`]), AWS's or `pod-identity-auth`, keeps what it is given ([`broker`])
//! and answers with what every AWS SDK's container credentials provider reads ([`server`]). Wire
//! format, flags and ports are those of AWS's own agent.
//!
//! [`app::App`] is the whole daemon; the binary only reads its flags.

pub mod args; // the command line
pub mod config; // what it means
pub mod app; // the wiring
pub mod server; // one request
pub mod judge; // whether a token is good, and by whose word
pub mod broker; // the cache, and one fetch for all who wait
mod upstream; // how often EKS Auth is asked, and for whom
pub mod exchange; // EKS Auth, asked once
mod readiness; // what has to hold for traffic
