//! EKS Auth for clusters that are not EKS: exchanges a pod token for the credentials of an IAM role session.
//!
//! It serves the operation `AssumeRoleForPodIdentity` with the wire format of AWS's EKS Auth, so that AWS's SDKs and
//! agent work unchanged. A request passes these steps:
//!
//! 1. [`server`] authenticates the agent and verifies the pod token with the keys of the cluster's issuers.
//! 2. [`store`] looks up the association of the pod's service account.
//! 3. The [`CredentialService`](pod_identity_core::service::CredentialService) serves the session from its cache, or
//!    gets it through [`sessions`] from [`sts`].
//! 4. [`audit`] writes one line for each response.
//!
//! [`app::App`] is the whole service. The binary adds only the command line.

pub mod args; // command line
pub mod config; // checked configuration
pub mod certificate; // serving certificate
pub mod app; // wiring
pub mod server; // one request
pub mod caller; // authenticated agents
pub mod sigv4; // AWS signatures
pub mod store; // association file
pub mod sessions; // sessions of pods
pub mod sts; // calls to STS
pub mod audit; // audit log
