//! The admission webhook of EKS Pod Identity and IRSA.
//!
//! The rules are in [`pod_identity_core::inject`]. This crate holds I/O, flags and wiring: [`lookup`] reads service
//! accounts and files, [`admission`] decides one review, [`server`] and [`app`] serve. [`report`] is the subcommand of that
//! name. Flags, annotations, names and paths
//! are those of AWS's webhook.

pub mod args; // the command line
pub mod config; // what it means
pub mod client; // the API server's client
pub mod lookup; // facts about service accounts
pub mod certificate; // what API servers know this program by
pub mod lease; // which replica acts where only one should
pub mod admission; // one review, end to end
pub mod server; // the requests that bring them
pub mod app; // the wiring
pub mod report; // the subcommand `report`
mod text; // texts from outside, cut
mod fault; // faults that last
mod repeat_limiter; // repeated log lines, limited
