//! Errors of token verification.

use super::InvalidBearerToken;
use crate::error::{ErrorCode, Quoted};
use crate::json;

/// The error of an invalid token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text cannot be a token.
    #[error(transparent)]
    Unparsable(#[from] InvalidBearerToken),
    /// A part is not base64url without padding, or not the expected JSON.
    #[error("the token's {part} cannot be read: {reason}")]
    Malformed {
        /// `header`, `payload` or `signature`.
        part: &'static str,
        /// The reason.
        reason: String,
    },
    /// An object has a duplicate key.
    #[error("the token's {part} has the key {} twice", Quoted(.key))]
    DuplicateKey {
        /// `header` or `payload`.
        part: &'static str,
        /// The key.
        key: String,
    },
    /// The token is unsigned, or signed with a shared secret or an unsupported algorithm.
    #[error("the token's algorithm {} is not accepted; RS256, ES256 and ES384 are", Quoted(.algorithm))]
    AlgorithmRefused {
        /// The header's `alg`.
        algorithm: String,
    },
    /// The key is for another algorithm.
    #[error("the token's algorithm is {token}, want {key}, the algorithm of its key")]
    AlgorithmNotOfKey {
        /// Algorithm of the token.
        token: &'static str,
        /// Algorithm of the key.
        key: &'static str,
    },
    /// The header has critical extensions (RFC 7515 §4.1.11), which are not supported.
    #[error("the token's header has critical extensions (crit), which are not supported")]
    CriticalExtension,
    /// The header has no key id.
    #[error("the token's header has no key id (kid)")]
    KeyIdMissing,
    /// The issuer's key set does not have the key, or does not have it yet.
    #[error("the token's key {} is not in the issuer's key set", Quoted(.key_id))]
    KeyUnknown {
        /// The header's `kid`.
        key_id: String,
    },
    /// The issuer's keys have not been fetched yet.
    #[error("the issuer's keys have not been fetched yet")]
    KeysMissing,
    /// The issuer publishes the key, but it cannot be used.
    #[error("the token's key {} cannot be used: {reason}", Quoted(.key_id))]
    KeyUnusable {
        /// The header's `kid`.
        key_id: String,
        /// The reason.
        reason: String,
    },
    /// The signature does not verify with the key.
    #[error("the token's signature does not verify")]
    SignatureInvalid,
    /// The token is from another issuer.
    #[error("the token's issuer is {}, want {}", Quoted(.issuer), alternatives(.expected))]
    IssuerWrong {
        /// Issuer of the token.
        issuer: String,
        /// The issuers that the cluster accepts.
        expected: Vec<String>,
    },
    /// The token has another audience, or several.
    #[error("the token's audience is {}, want only {expected:?}", Quoted(&.audience.join(", ")))]
    AudienceWrong {
        /// Audiences of the token.
        audience: Vec<String>,
        /// The accepted audience.
        expected: String,
    },
    /// The token has expired.
    #[error("the token expired {ago} s ago (exp {exp})")]
    Expired {
        /// Seconds since the expiry.
        ago: u64,
        /// The claim.
        exp: u64,
    },
    /// The token is not valid yet.
    #[error("the token is not valid before {ahead} s from now (nbf {nbf})")]
    NotYetValid {
        /// Seconds until then.
        ahead: u64,
        /// The claim.
        nbf: u64,
    },
    /// The token was issued in the future.
    #[error("the token was issued {ahead} s in the future (iat {iat})")]
    IssuedInFuture {
        /// Seconds until then.
        ahead: u64,
        /// The claim.
        iat: u64,
    },
    /// The token is a legacy token from a Secret. It is not bound to a pod and never expires.
    #[error(
        "the token is a legacy token from a Secret, without exp, aud and pod: mount a projected service account token \
         (volumes[].projected.sources[].serviceAccountToken) with audience pods.eks.amazonaws.com"
    )]
    Legacy,
    /// The token has no `kubernetes.io` claim, or is not bound to a pod.
    #[error("the token is not bound to a pod")]
    NotPodBound,
    /// `sub` and the `kubernetes.io` claim have different service accounts.
    #[error("the token's sub and its kubernetes.io claim have different service accounts")]
    SubjectMismatch,
    /// A name breaks the rules of Kubernetes.
    #[error("the token has an invalid name: {0}")]
    InvalidName(#[from] crate::identity::InvalidName),
}

impl TokenError {
    /// Returns the stable code of the error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unparsable(_)
            | Self::Malformed { .. }
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

    pub(super) fn unreadable(part: &'static str) -> impl Fn(json::JsonError) -> Self {
        move |error| match error {
            json::JsonError::DuplicateKey(key) => Self::DuplicateKey { part, key },
            json::JsonError::Invalid(reason) => Self::Malformed { part, reason },
        }
    }
}

fn alternatives(issuers: &[String]) -> String {
    issuers.iter().map(|issuer| format!("{issuer:?}")).collect::<Vec<_>>().join(" or ")
}
