//! Pods that were let in without what their account has, for whoever tells people of them.

use std::collections::BTreeSet;

pub use crate::pod::Owner;

/// A pod that was let in without credentials that it should have. It is not there yet: it may still be refused
/// by somebody else, and has neither UID nor, where its name is made by the API server, a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Its namespace.
    pub namespace: String,
    /// Its name, or what its name will begin with.
    pub pod: String,
    /// Its service account.
    pub service_account: String,
    /// The controller that made it, if one has.
    pub owner: Option<Owner>,
    /// Why, as in the metric `pod_identity_webhook_missed_total`.
    pub reasons: BTreeSet<&'static str>,
    /// Why, for people.
    pub text: String,
}
