//! The claims of a Kubernetes service account token (kubernetes `pkg/serviceaccount/claims.go`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer};

use super::BearerToken;
use super::verify::{TokenError, read_part};
use crate::identity::{Pod, WorkloadIdentity};

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

impl Claims {
    /// The identity that the claims speak of, and the end of the token. They must agree with
    /// themselves; whether they are to be believed is the caller's to know.
    pub(super) fn identity(self) -> Result<(WorkloadIdentity, SystemTime), TokenError> {
        let expires_at = UNIX_EPOCH.checked_add(Duration::from_secs(self.exp)).ok_or_else(|| {
            TokenError::Malformed { part: "payload", reason: "exp is beyond all time".to_owned() }
        })?;
        let kubernetes = self.kubernetes.ok_or(TokenError::NotPodBound)?;
        let pod = kubernetes.pod.ok_or(TokenError::NotPodBound)?;
        let identity = WorkloadIdentity {
            issuer: self.iss,
            namespace: kubernetes.namespace.try_into()?,
            service_account: kubernetes.serviceaccount.name.try_into()?,
            service_account_uid: kubernetes.serviceaccount.uid.try_into()?,
            pod: Pod { name: pod.name.try_into()?, uid: pod.uid.try_into()? },
        };
        if self.sub != identity.subject() {
            return Err(TokenError::SubjectMismatch);
        }
        Ok((identity, expires_at))
    }
}

/// The identity that a token claims for itself, and its end. Nobody here has checked it: it is to be
/// believed only once somebody who did, the upstream, has accepted this very token.
///
/// # Errors
/// [`TokenError`] where the token has no such claims, or they contradict each other.
pub fn claimed_identity(token: &BearerToken) -> Result<(WorkloadIdentity, SystemTime), TokenError> {
    let payload = token.expose().split('.').nth(1).unwrap_or_default();
    read_claims(payload)?.identity()
}

/// Reads a payload. A legacy token lacks the claims that [`Claims`] needs. It is recognised by a claim
/// that only it has (kubernetes `pkg/serviceaccount/legacy.go`).
pub(super) fn read_claims(payload: &str) -> Result<Claims, TokenError> {
    #[derive(Deserialize)]
    struct Legacy {
        #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
        _secret: String,
    }
    read_part("payload", payload).map_err(|error| match read_part::<Legacy>("payload", payload) {
        Ok(_) => TokenError::Legacy,
        Err(_) => error,
    })
}

/// Returns the issuer that a token claims, unverified. It selects the keys among those of several
/// issuers. [`verify`](super::verify()) compares it again after the signature is checked.
///
/// # Errors
/// [`TokenError`] where the payload cannot be read or has no `iss`.
pub fn claimed_issuer(token: &BearerToken) -> Result<String, TokenError> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = token.expose().split('.').nth(1).unwrap_or_default();
    Ok(read_part::<Issuer>("payload", payload)?.iss)
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
