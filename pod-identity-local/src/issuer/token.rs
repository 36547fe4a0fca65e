//! The claims of a service account token.

use std::time::SystemTime;

use pod_identity_core::identity::{Namespace, Node, Pod, ServiceAccount, Uid, subject};
use serde_json::{Value, json};
use uuid::Uuid;

/// A request for a token: the parameters of Kubernetes' TokenRequest, and the times of the caller's clock.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The namespace of the service account and of the pod.
    pub namespace: Namespace,
    /// The service account's name.
    pub service_account: ServiceAccount,
    /// The service account's UID.
    pub service_account_uid: Uid,
    /// The pod that the token is bound to. Every projected token has one.
    pub pod: Option<Pod>,
    /// The pod's node. Tokens name it since Kubernetes 1.30.
    pub node: Option<Node>,
    /// The audiences of the token. Kubernetes writes an array also for one.
    pub audiences: Vec<String>,
    /// The time of issue.
    pub issued_at: SystemTime,
    /// The start of validity. In Kubernetes it equals `issued_at`.
    pub not_before: SystemTime,
    /// The expiry.
    pub expires_at: SystemTime,
}

impl TokenRequest {
    /// Returns the claims of kubernetes `claims.go`, with a new `jti` for each call.
    pub(super) fn claims(&self, issuer: &str) -> Value {
        let mut kubernetes = json!({
            "namespace": self.namespace,
            "serviceaccount": { "name": self.service_account, "uid": self.service_account_uid },
        });
        if let Some(pod) = &self.pod {
            kubernetes["pod"] = json!({ "name": pod.name, "uid": pod.uid });
        }
        if let Some(node) = &self.node {
            kubernetes["node"] = json!({ "name": node.name });
            if let Some(uid) = &node.uid {
                kubernetes["node"]["uid"] = json!(uid);
            }
        }
        json!({
            "aud": self.audiences,
            "exp": seconds(self.expires_at),
            "iat": seconds(self.issued_at),
            "iss": issuer,
            "jti": Uuid::new_v4().to_string(),
            "kubernetes.io": kubernetes,
            "nbf": seconds(self.not_before),
            "sub": subject(&self.namespace, &self.service_account),
        })
    }
}

/// Returns whole seconds since 1970, rounded down: times in tokens of Kubernetes have no fraction.
fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let whole = before.as_secs() + u64::from(before.subsec_nanos() > 0);
            i64::try_from(whole).map_or(i64::MIN, |whole| -whole)
        }
    }
}
