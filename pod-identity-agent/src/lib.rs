//! The node agent of EKS Pod Identity: serves the credentials of a pod's role to the pod.
//!
//! The SDK of a pod sends its service account token with `GET /v1/credentials` ([`server`]). The agent exchanges the
//! token at EKS Auth ([`exchange`]), AWS's or `pod-identity-auth`, through the credential service of
//! `pod-identity-core`, which verifies, caches and renews. The response is the JSON that the container credentials
//! provider of every AWS SDK reads. Wire format, flags and ports are those of AWS's agent.
//!
//! [`app::App`] is the whole agent. The binary adds only the command line.

pub mod args; // command line
pub mod startup_taint; // startup taint of the node
pub mod config; // checked configuration
pub mod app; // wiring
pub mod server; // one request
pub mod peer; // peer of an address
pub mod keys; // keys of the cluster's issuer
pub mod pods; // pods of the node
pub mod network; // the node's network: routes, addresses, listeners, capabilities
pub mod exchange; // one EKS Auth call
#[cfg(target_os = "linux")]
pub mod initialize; // addresses of the node
pub mod metrics; // metrics of EKS Auth calls
