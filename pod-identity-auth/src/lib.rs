//! EKS Auth for clusters that are not EKS: a pod's token in, an IAM role session out.
//!
//! One operation, `AssumeRoleForPodIdentity`, with the wire format of AWS's EKS Auth, so that AWS's
//! SDKs and agent ask it unchanged. A request passes, in this order: who calls ([`server`]), whose
//! token ([`store`] knows each cluster's issuer and keys), which association, then STS ([`sts`]); and
//! every answer leaves one line in the audit log ([`audit`]).
//!
//! [`app::App`] is the whole service; the binary only reads its flags.

pub mod app;
pub mod args;
pub mod audit;
pub mod config;
pub mod server;
pub mod sigv4;
pub mod store;
pub mod sts;
