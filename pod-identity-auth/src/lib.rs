//! EKS Auth for clusters that are not EKS: a pod's token in, an IAM role session out.
//!
//! One operation, `AssumeRoleForPodIdentity`, with the wire format of AWS's EKS Auth, so that AWS's
//! SDKs and agent ask it unchanged. A request passes, in this order: who calls ([`server`]), whose
//! token ([`store`] knows each cluster's issuer and keys), which association; then its session, kept
//! ([`sessions`]) or from STS ([`sts`]); and every answer leaves one line in the audit log ([`audit`]).
//!
//! [`app::App`] is the whole service; the binary only reads its flags.

pub mod args; // the command line
pub mod config; // what it means
pub mod app; // the wiring
pub mod server; // one request
pub mod sigv4; // who signed it
pub mod store; // clusters, keys, associations
pub mod sessions; // the pods' sessions, shared and kept
pub mod sts; // where they come from
pub mod audit; // one line for each answer
