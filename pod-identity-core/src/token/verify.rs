//! Signature first, then claims: a token is believed in nothing before its signature is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::claims::read_claims;
use super::keys::accepted;
use super::{BearerToken, Claims, KeySet};
use crate::error::{ErrorCode, Quoted};
use crate::identity::{Node, WorkloadIdentity};
use crate::json;

/// How far a token may seem to come from the future (`nbf`, `iat`): 60 s, as kube-apiserver allows.
/// A token is used milliseconds after it is made, so a slow clock here must not refuse it.
///
/// `exp` has no leeway: kubelet replaces a token after 80 % of its life, so a token in its last
/// minute is already an old one.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// What a token must say of itself to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The exact issuer.
    pub issuer: String,
    /// The exact and only audience.
    pub audience: String,
}

/// A token that passed [`verify`], as what it proves.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedToken {
    /// Whom it speaks for.
    pub identity: WorkloadIdentity,
    /// The node its pod was bound to, where the API server says so (Kubernetes 1.30 and newer).
    pub node: Option<Node>,
    /// Its own id (`jti`), fit for an audit line: it cannot be turned back into the token.
    pub token_id: Option<String>,
    /// When it ends.
    pub expires_at: SystemTime,
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// A part of it is not base64url without padding, or not the JSON it should be.
    #[error("the token's {part} cannot be read: {reason}")]
    Malformed {
        /// `header`, `payload` or `signature`.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An object in it has a key twice.
    #[error("the token's {part} has the key {} twice", Quoted(.key))]
    DuplicateKey {
        /// `header` or `payload`.
        part: &'static str,
        /// The key.
        key: String,
    },
    /// It is unsigned, signed with a shared secret, or with an algorithm that is not supported.
    #[error("the token's algorithm {} is not accepted; RS256, ES256 and ES384 are", Quoted(.algorithm))]
    AlgorithmRefused {
        /// The header's `alg`.
        algorithm: String,
    },
    /// Its key signs with another algorithm.
    #[error("the token says {token}, its key is one for {key}")]
    AlgorithmNotOfKey {
        /// The token's.
        token: &'static str,
        /// The key's.
        key: &'static str,
    },
    /// Its header asks for extensions that must be understood (RFC 7515 §4.1.11); none is.
    #[error("the token's header has critical extensions (crit), which are not supported")]
    CriticalExtension,
    /// Its header names no key.
    #[error("the token's header names no key (kid)")]
    KeyIdMissing,
    /// The issuer's key set has no such key, or not yet.
    #[error("the token's key {} is not in the issuer's key set", Quoted(.key_id))]
    KeyUnknown {
        /// The header's `kid`.
        key_id: String,
    },
    /// None of the issuer's keys could be had yet.
    #[error("the issuer's keys could not be fetched yet")]
    KeysMissing,
    /// The issuer publishes the key, but it cannot be used.
    #[error("the token's key {} cannot be used: {reason}", Quoted(.key_id))]
    KeyUnusable {
        /// The header's `kid`.
        key_id: String,
        /// Why.
        reason: String,
    },
    /// The signature is not that key's over this token.
    #[error("the token's signature does not verify")]
    SignatureInvalid,
    /// Another issuer's token.
    #[error("the token's issuer is {}, want {}", Quoted(.issuer), alternatives(.expected))]
    IssuerWrong {
        /// The token's.
        issuer: String,
        /// The issuers that the cluster accepts.
        expected: Vec<String>,
    },
    /// Another audience's token, or one for several.
    #[error("the token's audience is {}, not {expected:?} alone", Quoted(&.audience.join(", ")))]
    AudienceWrong {
        /// The token's.
        audience: Vec<String>,
        /// The one that is accepted.
        expected: String,
    },
    /// It has expired.
    #[error("the token expired {ago} s ago (exp {exp})")]
    Expired {
        /// Seconds since then.
        ago: u64,
        /// The claim.
        exp: u64,
    },
    /// It does not hold yet.
    #[error("the token holds only in {ahead} s (nbf {nbf})")]
    NotYetValid {
        /// Seconds until then.
        ahead: u64,
        /// The claim.
        nbf: u64,
    },
    /// It was made in the future.
    #[error("the token was issued {ahead} s in the future (iat {iat})")]
    IssuedInFuture {
        /// Seconds until then.
        ahead: u64,
        /// The claim.
        iat: u64,
    },
    /// The token is a legacy token, from a Secret. It belongs to no pod and never expires.
    #[error(
        "the token is a legacy one, of a Secret: it has no exp, no aud and no pod. Mount a projected service account token \
         (volumes[].projected.sources[].serviceAccountToken) of audience pods.eks.amazonaws.com instead"
    )]
    Legacy,
    /// It has no `kubernetes.io` claim, or is bound to no pod.
    #[error("the token is bound to no pod")]
    NotPodBound,
    /// Its `sub` and its `kubernetes.io` claim name different accounts.
    #[error("the token's sub does not name the service account of its kubernetes.io claim")]
    SubjectMismatch,
    /// A name in it breaks Kubernetes' rules.
    #[error("the token names an impossible object: {0}")]
    InvalidName(#[from] crate::identity::InvalidName),
}

impl TokenError {
    /// The stable code of this refusal.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed { .. }
            | Self::DuplicateKey { .. }
            | Self::CriticalExtension
            | Self::KeyIdMissing
            | Self::SubjectMismatch
            | Self::InvalidName(_) => ErrorCode::TokenMalformed,
            Self::AlgorithmRefused { .. } | Self::AlgorithmNotOfKey { .. } | Self::KeyUnusable { .. } => {
                ErrorCode::TokenAlgorithmRefused
            }
            Self::KeyUnknown { .. } | Self::KeysMissing => ErrorCode::TokenKeyUnknown,
            Self::SignatureInvalid => ErrorCode::TokenSignatureInvalid,
            Self::IssuerWrong { .. } => ErrorCode::TokenIssuerWrong,
            Self::AudienceWrong { .. } => ErrorCode::TokenAudienceWrong,
            Self::Expired { .. } => ErrorCode::TokenExpired,
            Self::NotYetValid { .. } | Self::IssuedInFuture { .. } => ErrorCode::TokenNotYetValid,
            Self::Legacy | Self::NotPodBound => ErrorCode::TokenNotPodBound,
        }
    }

    fn unreadable(part: &'static str) -> impl Fn(json::JsonError) -> Self {
        move |error| match error {
            json::JsonError::DuplicateKey(key) => Self::DuplicateKey { part, key },
            json::JsonError::Invalid(reason) => Self::Malformed { part, reason },
        }
    }
}

/// Verifies a pod's token: signature by one of the issuer's keys under that key's algorithm, exact
/// issuer, exact and only audience, times with [`LEEWAY`], bound to a pod, and `sub` in agreement
/// with the `kubernetes.io` claim (kubernetes `pkg/serviceaccount/{jwt,claims}.go`).
///
/// What it cannot see without the API server: whether the pod or the account has been deleted since.
///
/// # Errors
/// [`TokenError`], one variant for each refusal.
pub fn verify(
    token: &BearerToken,
    keys: &KeySet,
    expected: &Expected,
    now: SystemTime,
) -> Result<VerifiedToken, TokenError> {
    let claims = authentic_claims(token, keys)?;
    if claims.iss != expected.issuer {
        return Err(TokenError::IssuerWrong { issuer: claims.iss, expected: vec![expected.issuer.clone()] });
    }
    if claims.aud != [expected.audience.as_str()] {
        return Err(TokenError::AudienceWrong { audience: claims.aud, expected: expected.audience.clone() });
    }
    check_times(&claims, now)?;
    let node = claims.kubernetes.as_ref().and_then(|kubernetes| kubernetes.node.clone());
    let node = match node {
        Some(node) => {
            Some(Node { name: node.name.try_into()?, uid: node.uid.map(TryInto::try_into).transpose()? })
        }
        None => None,
    };
    let token_id = claims.jti.clone();
    let (identity, expires_at) = claims.identity()?;
    Ok(VerifiedToken { identity, node, token_id, expires_at })
}

/// The claims of a token whose signature verifies; issuer, audience, times and binding are the
/// caller's to check. [`verify`] is what pods' tokens need; this is for other OIDC tokens.
///
/// # Errors
/// [`TokenError`] where the token cannot be read or its signature does not verify.
pub fn authentic_claims(token: &BearerToken, keys: &KeySet) -> Result<Claims, TokenError> {
    let text = token.expose();
    let malformed =
        |part| TokenError::Malformed { part, reason: "not three parts joined by dots".to_owned() };
    let (message, signature) = text.rsplit_once('.').ok_or_else(|| malformed("signature"))?;
    let (header, payload) = message.split_once('.').ok_or_else(|| malformed("header"))?;

    let header: Header = read_part("header", header)?;
    if header.crit.is_some() {
        return Err(TokenError::CriticalExtension);
    }
    let Some(algorithm) = accepted(&header.alg) else {
        return Err(TokenError::AlgorithmRefused { algorithm: header.alg });
    };
    let key_id = header.kid.filter(|kid| !kid.is_empty()).ok_or(TokenError::KeyIdMissing)?;
    keys.check(&key_id, algorithm, message.as_bytes(), &decode("signature", signature)?)?;
    read_claims(payload)
}

fn alternatives(issuers: &[String]) -> String {
    issuers.iter().map(|issuer| format!("{issuer:?}")).collect::<Vec<_>>().join(" or ")
}

/// Reads a part of a token: base64url of JSON that says each thing once.
pub(super) fn read_part<T: DeserializeOwned>(part: &'static str, text: &str) -> Result<T, TokenError> {
    json::from_slice(&decode(part, text)?).map_err(TokenError::unreadable(part))
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

/// The decoded bytes of a token's part, overwritten when dropped: they are a form of the token.
fn decode(part: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|error| TokenError::Malformed {
        part,
        reason: format!("not base64url without padding: {error}"),
    })
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
