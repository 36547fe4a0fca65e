//! The pod's token: a JSON Web Token (RFC 7519) that Kubernetes signed for one pod.
//!
//! [`BearerToken`] holds one without ever printing it. With the feature `verify`, [`verify`] turns
//! it into a [`VerifiedToken`], which is the only way to get one: what holds a `VerifiedToken` knows
//! that signature, issuer, audience and times were checked.

#[cfg(feature = "verify")]
mod claims;
#[cfg(feature = "verify")]
mod keys;
#[cfg(feature = "verify")]
mod verify;

#[cfg(feature = "verify")]
pub use claims::{
    Claims, KubernetesClaims, NodeReference, ObjectReference, claimed_identity, claimed_issuer,
};
#[cfg(feature = "verify")]
pub use keys::{KeySet, KeySetError};
#[cfg(feature = "verify")]
pub use verify::{Expected, LEEWAY, TokenError, VerifiedToken, authentic_claims, verify};

use std::fmt;

use zeroize::Zeroizing;

use crate::error::ErrorCode;

/// The audience of tokens for EKS Pod Identity (EKS user guide, *How EKS Pod Identity works*).
pub const POD_IDENTITY_AUDIENCE: &str = "pods.eks.amazonaws.com";

/// The audience of an agent's own token for `pod-identity-auth`: manifests project it, the service asks
/// for it. Our own name; AWS's EKS Auth takes no such tokens.
pub const AGENT_AUDIENCE: &str = "pod-identity-auth";

/// A service account token as the pod sent it: secret, unverified, overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Zeroizing<String>);

/// Why a text cannot be a service account token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBearerToken {
    /// There is no text.
    #[error("the token is empty")]
    Empty,
    /// It has more than [`BearerToken::MAX_LENGTH`] bytes.
    #[error("the token has {length} bytes; at most {} are read", BearerToken::MAX_LENGTH)]
    TooLong {
        /// How long it is, in bytes.
        length: usize,
    },
    /// It is not three parts of base64url, joined by dots.
    #[error(
        "the token is not three parts of base64url joined by dots (is there a line feed or a space in it?)"
    )]
    NotCompact,
}

impl InvalidBearerToken {
    /// The stable code of this refusal.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::TokenMalformed
    }
}

impl BearerToken {
    /// The longest token that is read, in bytes: 12 KiB. Kubernetes tokens have about 1.2 KiB; those
    /// of external signers with many claims stay below 8 KiB.
    pub const MAX_LENGTH: usize = 12 * 1024;

    /// Takes a token in the compact form, by EKS Auth's pattern for it: three parts of
    /// `[A-Za-z0-9-_=]`, joined by dots.
    ///
    /// # Errors
    /// [`InvalidBearerToken`] where the text cannot be a token; nothing of it is in the error.
    pub fn parse(text: &str) -> Result<Self, InvalidBearerToken> {
        if text.is_empty() {
            return Err(InvalidBearerToken::Empty);
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(InvalidBearerToken::TooLong { length: text.len() });
        }
        let mut parts = text.split('.');
        let compact = parts.by_ref().take(3).filter(|part| is_part(part)).count() == 3;
        if !compact || parts.next().is_some() {
            return Err(InvalidBearerToken::NotCompact);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The token itself, for the one place that sends or verifies it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn is_part(part: &str) -> bool {
    // Without a branch for each byte the compiler takes many at a time.
    let all = part
        .bytes()
        .fold(true, |all, b| all & (b.is_ascii_alphanumeric() | (b == b'-') | (b == b'_') | (b == b'=')));
    all && !part.is_empty()
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(<redacted>)")
    }
}

/// The SHA-256 of a token: the only form in which one is ever a key of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

#[cfg(feature = "verify")]
impl TokenDigest {
    /// The digest of a token.
    pub fn of(token: &BearerToken) -> Self {
        Self::of_text(token.expose().as_bytes())
    }

    /// The digest of what may be a token: to look whether it is one that is known already.
    pub fn of_text(text: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_prints() {
        let token = BearerToken::parse("c2VjcmV0.c2VjcmV0.c2VjcmV0").unwrap();
        assert!(!format!("{token:?} {:#?}", Some(&token)).contains("c2VjcmV0"));
        assert_eq!(format!("{token:?}"), "BearerToken(<redacted>)");
        assert_eq!(token.expose(), "c2VjcmV0.c2VjcmV0.c2VjcmV0");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        assert_eq!(BearerToken::parse(""), Err(InvalidBearerToken::Empty));
        let longest = format!("a.b.{}", "c".repeat(BearerToken::MAX_LENGTH - 4));
        assert!(BearerToken::parse(&longest).is_ok());
        let long = format!("{longest}c");
        assert_eq!(BearerToken::parse(&long), Err(InvalidBearerToken::TooLong { length: 12 * 1024 + 1 }));
        for text in ["a", "a.b", "a.b.c.d", "a..c", "a.b.c\n", "a b.c.d", "a.b.ç", "Bearer a.b.c"] {
            assert_eq!(BearerToken::parse(text), Err(InvalidBearerToken::NotCompact), "{text:?}");
        }
    }
}
