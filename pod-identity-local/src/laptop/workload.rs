//! A pod that does not run, but has tokens as if it did.

use std::time::{Duration, SystemTime};

use pod_identity_core::identity::{InvalidName, Namespace, Node, Pod, PodName, ServiceAccount, Uid};
use pod_identity_core::token::POD_IDENTITY_AUDIENCE;

use super::{Laptop, LaptopError};
use crate::issuer::TokenRequest;

/// A pod of a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its service account.
    pub service_account: ServiceAccount,
    /// The account's UID.
    pub service_account_uid: Uid,
    /// The pod.
    pub pod: Pod,
    /// Its node.
    pub node: Node,
}

impl Workload {
    /// A new pod of a new account on a new node: with UIDs that no other has.
    ///
    /// # Errors
    /// Never in practice: where a UUID were no UID.
    pub fn new(
        namespace: Namespace,
        service_account: ServiceAccount,
        pod: PodName,
    ) -> Result<Self, InvalidName> {
        let uid = || uuid::Uuid::new_v4().to_string().parse::<Uid>();
        Ok(Self {
            namespace,
            service_account,
            service_account_uid: uid()?,
            pod: Pod { name: pod, uid: uid()? },
            node: Node { name: "laptop".parse()?, uid: Some(uid()?) },
        })
    }

    /// What to ask the issuer for: a token for Pod Identity that holds for `lifetime`.
    pub fn token_request(&self, now: SystemTime, lifetime: Duration) -> TokenRequest {
        TokenRequest {
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            service_account_uid: self.service_account_uid.clone(),
            pod: Some(self.pod.clone()),
            node: Some(self.node.clone()),
            audiences: vec![POD_IDENTITY_AUDIENCE.to_owned()],
            issued_at: now,
            not_before: now,
            expires_at: now + lifetime,
        }
    }
}

impl Laptop {
    /// A token for Pod Identity, of the cluster whose agent runs.
    ///
    /// # Errors
    /// Where the issuer cannot sign.
    pub fn token(&self, pod: &Workload, now: SystemTime, lifetime: Duration) -> Result<String, LaptopError> {
        Ok(self.issuer().mint(&pod.token_request(now, lifetime))?)
    }
}
