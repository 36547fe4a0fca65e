//! The admission webhook of EKS Pod Identity and IRSA.
//!
//! The rules are in [`pod_identity_core::inject`]. This crate holds I/O, flags and wiring: [`knowledge`] reads service
//! accounts and files, [`admission`] decides one review, [`server`] and [`app`] serve. Flags, annotations, names and paths
//! are those of AWS's webhook.

pub mod args; // the command line
pub mod config; // what it means
pub mod client; // the API server's client
pub mod knowledge; // all that is known of an account when a review asks
pub mod certificate; // the certificate of the listener
pub mod admission; // one review, end to end
pub mod server; // the requests that bring them
pub mod app; // the wiring
mod repeat_limiter; // repeated log lines, limited
