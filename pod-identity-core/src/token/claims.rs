//! The claims of a Kubernetes service account token (kubernetes `pkg/serviceaccount/claims.go`).

use serde::{Deserialize, Deserializer};

use super::BearerToken;
use super::verify::{TokenError, read_part};
use crate::identity::{Namespace, ServiceAccount};

/// The payload of a token whose signature has been checked. Nothing else of it has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Claims {
    /// Who issued it: the API server's `--service-account-issuer`.
    pub iss: String,
    /// Whom it is about: `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
    /// For whom it was made. RFC 7519 allows one string or an array; Kubernetes writes an array.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// From when it holds, in seconds since 1970.
    pub nbf: Option<u64>,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// Its own id: a UUID from Kubernetes 1.30 on.
    pub jti: Option<String>,
    /// What Kubernetes says of the account, its pod and its node.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Option<KubernetesClaims>,
}

/// The `kubernetes.io` claim.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct KubernetesClaims {
    /// The namespace of the account and of the pod.
    pub namespace: String,
    /// The account.
    pub serviceaccount: ObjectReference,
    /// The pod that the token is bound to, if it is bound to one.
    pub pod: Option<ObjectReference>,
    /// The node that the pod was bound to when the token was made.
    pub node: Option<NodeReference>,
}

/// A Kubernetes object, by name and UID.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ObjectReference {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A node, whose UID may be missing (kubernetes `claims.go`: the node object may be gone).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct NodeReference {
    /// Its name.
    pub name: String,
    /// Its UID.
    #[serde(default)]
    pub uid: Option<String>,
}

/// The namespace and service account that a token claims for itself. Nobody has checked it: it is fit
/// only to be compared with what was issued for the token by somebody who did.
///
/// # Errors
/// [`TokenError`] where the token has no such claim.
pub fn claimed_subject(token: &BearerToken) -> Result<(Namespace, ServiceAccount), TokenError> {
    let payload = token.expose().split('.').nth(1).unwrap_or_default();
    let claims: Claims = read_part("payload", payload)?;
    let kubernetes = claims.kubernetes.ok_or(TokenError::NotPodBound)?;
    Ok((kubernetes.namespace.try_into()?, kubernetes.serviceaccount.name.try_into()?))
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
