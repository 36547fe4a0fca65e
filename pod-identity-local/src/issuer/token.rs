//! What a service account token says.

use std::time::SystemTime;

use pod_identity_core::identity::{Namespace, Node, Pod, ServiceAccount, Uid, subject};
use serde_json::{Value, json};
use uuid::Uuid;

/// What a token is asked for: the parameters of Kubernetes' TokenRequest, with the times that the
/// caller's clock says.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The namespace of the service account, and of the pod.
    pub namespace: Namespace,
    /// The service account's name.
    pub service_account: ServiceAccount,
    /// The service account's UID.
    pub service_account_uid: Uid,
    /// The pod that the token is bound to, as every projected token is.
    pub pod: Option<Pod>,
    /// The node that the pod runs on; in tokens since Kubernetes 1.30.
    pub node: Option<Node>,
    /// Whom the token is for. Kubernetes writes an array even for one.
    pub audiences: Vec<String>,
    /// When it is issued.
    pub issued_at: SystemTime,
    /// From when on it holds: in Kubernetes always `issued_at`.
    pub not_before: SystemTime,
    /// When it ends.
    pub expires_at: SystemTime,
}

impl TokenRequest {
    /// The claims of kubernetes `claims.go`, with a `jti` of its own for each call.
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

/// Whole seconds since 1970, rounded down: Kubernetes' times have no fraction.
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
