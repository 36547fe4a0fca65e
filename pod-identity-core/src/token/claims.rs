//! The claims of a Kubernetes service account token (kubernetes `pkg/serviceaccount/claims.go`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer};

use super::parts::read_part;
use super::{BearerToken, TokenError};
use crate::identity::{InvalidName, Node, Pod, WorkloadIdentity};

/// The claims of a token. They are unverified unless the caller has verified the token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Claims {
    /// Issuer: the API server's `--service-account-issuer`.
    pub iss: String,
    /// Subject: `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
    /// Audiences. RFC 7519 allows one string or an array; Kubernetes writes an array.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Expiry, in seconds since 1970.
    pub exp: u64,
    /// Start of validity, in seconds since 1970.
    pub nbf: Option<u64>,
    /// Time of issue, in seconds since 1970.
    pub iat: u64,
    /// Id of the token: a UUID from Kubernetes 1.30 on.
    pub jti: Option<String>,
    /// The service account, its pod and its node.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Option<KubernetesClaims>,
}

/// The `kubernetes.io` claim.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct KubernetesClaims {
    /// Namespace of the service account and of the pod.
    pub namespace: String,
    /// Service account.
    pub serviceaccount: ObjectReference,
    /// Pod of the token, if the token is bound to one.
    pub pod: Option<ObjectReference>,
    /// Node of the pod at the time when the token was made.
    pub node: Option<NodeReference>,
}

/// A Kubernetes object, by name and UID.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ObjectReference {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// A node. Its UID may be missing if the node object was deleted (kubernetes `claims.go`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct NodeReference {
    /// Name.
    pub name: String,
    /// UID.
    #[serde(default)]
    pub uid: Option<String>,
}

impl Claims {
    /// Returns the pod of the claims, and the token's expiry. The claims must not contradict each other.
    pub(super) fn identity(&self) -> Result<(WorkloadIdentity, SystemTime), TokenError> {
        let expires_at = UNIX_EPOCH.checked_add(Duration::from_secs(self.exp)).ok_or_else(|| {
            TokenError::Malformed { part: "payload", reason: "exp is too large".to_owned() }
        })?;
        let kubernetes = self.kubernetes.as_ref().ok_or(TokenError::NotPodBound)?;
        let pod = kubernetes.pod.as_ref().ok_or(TokenError::NotPodBound)?;
        let identity = WorkloadIdentity {
            issuer: self.iss.clone(),
            namespace: kubernetes.namespace.parse()?,
            service_account: kubernetes.serviceaccount.name.parse()?,
            service_account_uid: kubernetes.serviceaccount.uid.parse()?,
            pod: Pod { name: pod.name.parse()?, uid: pod.uid.parse()? },
        };
        if self.sub != identity.subject() {
            return Err(TokenError::SubjectMismatch);
        }
        Ok((identity, expires_at))
    }

    /// Returns the node of the pod.
    pub(super) fn node(&self) -> Result<Option<Node>, InvalidName> {
        let Some(node) = self.kubernetes.as_ref().and_then(|kubernetes| kubernetes.node.as_ref()) else {
            return Ok(None);
        };
        let uid = node.uid.as_deref().map(str::parse).transpose()?;
        Ok(Some(Node { name: node.name.parse()?, uid }))
    }
}

/// Reads the payload. A legacy token has no claims that [`Claims`] needs. A claim that only legacy tokens have
/// identifies it (kubernetes `pkg/serviceaccount/legacy.go`).
pub(super) fn read_claims(token: &BearerToken) -> Result<Claims, TokenError> {
    #[derive(Deserialize)]
    struct Legacy {
        #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
        _secret: String,
    }
    let payload = token.expose().split('.').nth(1).unwrap_or_default();
    read_part("payload", payload).map_err(|error| match read_part::<Legacy>("payload", payload) {
        Ok(_) => TokenError::Legacy,
        Err(_) => error,
    })
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(audience) => vec![audience],
        OneOrMany::Many(audiences) => audiences,
    })
}
