//! The node daemon of EKS Pod Identity: gives a pod the credentials of its role.
//!
//! The SDK of a pod sends its service account token with `GET /v1/credentials` ([`server`]). The agent exchanges the
//! token at EKS Auth ([`exchange`]), AWS's or `pod-identity-auth`, through the credential service of
//! `pod-identity-core`, which verifies, caches and renews. The response is the JSON that the container credentials
//! provider of every AWS SDK reads. Wire format, flags and ports are those of AWS's agent.
//!
//! [`app::App`] is the whole daemon; the binary only reads its flags.

pub mod args; // the command line
pub mod config; // the configuration, checked
pub mod app; // the wiring
pub mod server; // one request
pub mod peer; // the peer of an address
pub mod exchange; // one EKS Auth call
pub mod metrics; // metrics of EKS Auth calls
