//! The whole path of EKS Pod Identity on one laptop.

pub mod issuer; // an OIDC issuer that signs as kube-apiserver does
pub mod sts; // an STS that refuses what AWS's refuses
pub mod tags; // tags, whose keys are compared without case
pub mod world; // the accounts, roles and callers that it knows
