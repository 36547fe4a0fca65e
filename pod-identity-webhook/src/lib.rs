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
pub mod certificate; // the certificate of the listener
pub mod admission; // the decision about one review
pub mod server; // the HTTP server
pub mod app; // the wiring
pub mod report; // the subcommand `report`
mod sources; // the configured sources of roles
mod repeat_limiter; // repeated log lines, limited
