//! A simulated pod, which has tokens.

use std::time::{Duration, SystemTime};

use pod_identity_core::identity::{InvalidName, Namespace, Node, Pod, PodName, ServiceAccount, Uid};
use pod_identity_core::token::POD_IDENTITY_AUDIENCE;

use super::{LocalServices, LocalServicesError};
use crate::issuer::TokenRequest;

/// A simulated pod of a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The pod's namespace.
    pub namespace: Namespace,
    /// The pod's service account.
    pub service_account: ServiceAccount,
    /// The service account's UID.
    pub service_account_uid: Uid,
    /// The pod's name and UID.
    pub pod: Pod,
    /// The pod's node.
    pub node: Node,
}

impl Workload {
    /// Creates a pod, a service account and a node, each with a new random UID.
    ///
    /// # Errors
    /// [`InvalidName`] if a random UUID is not a valid UID, which does not happen.
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

    /// Returns the request for a pod token that is valid for `lifetime`.
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

impl LocalServices {
    /// Signs a pod token with the issuer of the agent's cluster.
    ///
    /// # Errors
    /// [`LocalServicesError::Issuer`] if the issuer cannot sign.
    pub fn token(
        &self,
        pod: &Workload,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<String, LocalServicesError> {
        Ok(self.issuer().mint(&pod.token_request(now, lifetime))?)
    }
}
