//! Verification of tokens. It checks the signature before it uses any claim.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::claims::read_claims;
use super::keys::accepted;
use super::parts::{decode, read_part};
use super::{BearerToken, Claims, KeySet, PodToken, TokenError};
use crate::identity::{Node, WorkloadIdentity};

/// Leeway for `nbf` and `iat`: 60 s, as in kube-apiserver. Pods use a token milliseconds after it is made, so it must
/// be valid on a host whose clock is late.
///
/// `exp` has no leeway. kubelet replaces a token after 80 % of its lifetime, so pods do not use a token in its last
/// minute.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// The issuer and audience that a token must have.
///
/// ```
/// use pod_identity_core::token::{Expected, POD_IDENTITY_AUDIENCE};
///
/// let expected = Expected {
///     issuer: "https://oidc.example.com/demo".to_owned(),
///     audience: POD_IDENTITY_AUDIENCE.to_owned(),
/// };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The issuer. It must match exactly.
    pub issuer: String,
    /// The only audience. It must match exactly.
    pub audience: String,
}

/// A token that passed [`verify`], with its verified facts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedToken {
    /// The pod of the token.
    pub identity: Arc<WorkloadIdentity>,
    /// The node of the pod. API servers before Kubernetes 1.30 do not set it.
    pub node: Option<Node>,
    /// The token's own id (`jti`). It is not secret, so it may be logged.
    pub token_id: Option<String>,
    /// Expiry of the token.
    pub expires_at: SystemTime,
}

/// Verifies a pod token.
///
/// It checks the signature with the issuer's key of the token's key id, and the algorithm of that key. It checks the
/// exact issuer, the exact and only audience, and the times, with 60 s of leeway for `nbf` and `iat`. It checks that
/// the token is bound to a pod, and that `sub` agrees with the `kubernetes.io` claim (kubernetes
/// `pkg/serviceaccount/{jwt,claims}.go`).
///
/// It does not call the API server, so it cannot detect that the pod or the service account was deleted meanwhile.
///
/// # Errors
/// [`TokenError`], one variant for each check.
pub fn verify(
    token: &PodToken,
    keys: &KeySet,
    expected: &Expected,
    now: SystemTime,
) -> Result<VerifiedToken, TokenError> {
    check_signature(token.bearer(), keys)?;
    let claims = token.claims();
    if claims.iss != expected.issuer {
        let (issuer, expected) = (claims.iss.clone(), vec![expected.issuer.clone()]);
        return Err(TokenError::IssuerWrong { issuer, expected });
    }
    if claims.aud != [expected.audience.as_str()] {
        let (audience, expected) = (claims.aud.clone(), expected.audience.clone());
        return Err(TokenError::AudienceWrong { audience, expected });
    }
    check_times(claims, now)?;
    let node = claims.node()?;
    let (identity, expires_at) = token.unverified_identity()?;
    Ok(VerifiedToken { identity: identity.clone(), node, token_id: claims.jti.clone(), expires_at })
}

/// Returns the claims of a token whose signature verifies. The caller checks issuer, audience, times and
/// binding. For pod tokens call [`verify`]; this function is for other OIDC tokens.
///
/// # Errors
/// [`TokenError`] if the token cannot be read or its signature does not verify.
pub fn authentic_claims(token: &BearerToken, keys: &KeySet) -> Result<Claims, TokenError> {
    check_signature(token, keys)?;
    read_claims(token)
}

fn check_signature(token: &BearerToken, keys: &KeySet) -> Result<(), TokenError> {
    let malformed =
        |part| TokenError::Malformed { part, reason: "not three parts joined by dots".to_owned() };
    let (message, signature) = token.expose().rsplit_once('.').ok_or_else(|| malformed("signature"))?;
    let (header, _) = message.split_once('.').ok_or_else(|| malformed("header"))?;

    let header: Header = read_part("header", header)?;
    if header.crit.is_some() {
        return Err(TokenError::CriticalExtension);
    }
    let Some(algorithm) = accepted(&header.alg) else {
        return Err(TokenError::AlgorithmRefused { algorithm: header.alg });
    };
    let key_id = header.kid.filter(|kid| !kid.is_empty()).ok_or(TokenError::KeyIdMissing)?;
    keys.check(&key_id, algorithm, message.as_bytes(), &decode("signature", signature)?)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

fn check_times(claims: &Claims, now: SystemTime) -> Result<(), TokenError> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let horizon = now.saturating_add(LEEWAY.as_secs());
    if claims.exp <= now {
        return Err(TokenError::Expired { ago: now - claims.exp, exp: claims.exp });
    }
    if let Some(nbf) = claims.nbf.filter(|nbf| *nbf > horizon) {
        return Err(TokenError::NotYetValid { ahead: nbf - now, nbf });
    }
    if claims.iat > horizon {
        return Err(TokenError::IssuedInFuture { ahead: claims.iat - now, iat: claims.iat });
    }
    Ok(())
}
