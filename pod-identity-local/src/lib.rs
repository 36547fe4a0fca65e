//! EKS Pod Identity on one machine: issuer, STS, auth service and agent in one process.
//!
//! [`services::LocalServices`] runs the production auth service and agent, an OIDC [`issuer`] and an [`sts`]. The
//! local STS checks signatures, parameters and trust policies as AWS's STS does. A [`fixture::Fixture`] declares the
//! AWS accounts, callers, roles, clusters and associations.

pub mod fixture; // AWS accounts, roles, callers, clusters and associations
pub mod tags; // tags with case-insensitive keys
pub mod issuer; // OIDC issuer
pub mod sts; // STS
pub mod services; // issuer, STS, auth service and agent on loopback
pub mod args; // command line
pub mod sample; // built-in fixture file
pub mod fault; // fault injection
pub mod run; // command `run`
pub mod report; // report of the steps
pub mod aws; // command `aws`
