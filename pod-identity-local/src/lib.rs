//! The whole path of EKS Pod Identity on one laptop.
//!
//! [`laptop::Laptop`] runs the production auth service and agent, through the entry points that their
//! binaries use, between an OIDC [`issuer`] and an [`sts`] that refuse what the real ones refuse. One
//! file, a [`world::World`], says which accounts, roles, clusters and associations there are.

pub mod world; // the accounts, roles and callers that there are
pub mod tags; // tags, whose keys are compared without case
pub mod issuer; // an OIDC issuer that signs as kube-apiserver does
pub mod sts; // an STS that refuses what AWS's refuses
pub mod laptop; // everything, running on loopback
pub mod args; // the command line
pub mod sample; // the built-in file
pub mod breakage; // ways to break the path, to see what that looks like
pub mod run; // `run`
pub mod report; // the chain, link by link
