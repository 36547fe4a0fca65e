//! The pods of this node: refuses the tokens of deleted pods, of other nodes and of other addresses.
//!
//! [`Pods`] is the [`PodCheck`](pod_identity_core::service::PodCheck) of the credential service. A watch keeps its table. A
//! pod that the table does not have is read from the API server. While the API server is away, such a pod is served and
//! counted.

mod table; // known pods
mod lookup; // the read of one pod
mod page; // /debug/pods
mod check; // the check of a pod
mod metrics; // gauges and counters
mod watch; // the watch of the node's pods

pub use check::Pods;
pub use metrics::register;
pub use watch::Watch;

/// Path of the list of pods on the admin addresses.
pub const PAGE_PATH: &str = "/debug/pods";
