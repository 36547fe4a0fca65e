//! Pod tokens: JSON Web Tokens (RFC 7519) that Kubernetes signed for one pod.
//!
//! [`BearerToken`] holds the text and never prints it. With the feature `verify`, [`PodToken`] is the parsed token,
//! and [`verify`] converts it into a [`VerifiedToken`]. Only [`verify`] makes a `VerifiedToken`, so its signature,
//! issuer, audience and times were checked.

#[cfg(feature = "verify")]
mod error;
#[cfg(feature = "verify")]
mod parts;
#[cfg(feature = "verify")]
mod claims;
#[cfg(feature = "verify")]
mod pod_token;
#[cfg(feature = "verify")]
mod keys;
#[cfg(feature = "verify")]
mod verify;

#[cfg(feature = "verify")]
#[doc(hidden)] // for OIDC tokens that are not pod tokens
pub use claims::{Claims, KubernetesClaims, NodeReference, ObjectReference};
#[cfg(feature = "verify")]
pub use error::TokenError;
#[cfg(feature = "verify")]
pub use keys::{KeySet, KeySetError};
#[cfg(feature = "verify")]
pub use pod_token::PodToken;
#[cfg(feature = "verify")]
pub use verify::{Expected, VerifiedToken, verify};
#[cfg(feature = "verify")]
#[doc(hidden)] // for OIDC tokens that are not pod tokens
pub use verify::{LEEWAY, authentic_claims};

use std::fmt;

use zeroize::Zeroizing;

use crate::error::ErrorCode;

/// The audience of tokens for EKS Pod Identity (EKS user guide, *How EKS Pod Identity works*).
pub const POD_IDENTITY_AUDIENCE: &str = "pods.eks.amazonaws.com";

/// The audience of an agent's own token for `pod-identity-auth`. Manifests project it. AWS's EKS Auth does not accept
/// such tokens.
#[doc(hidden)]
pub const AGENT_AUDIENCE: &str = "pod-identity-auth";

/// A service account token from a pod: secret, unverified, zeroed when dropped.
///
/// ```
/// use pod_identity_core::token::BearerToken;
///
/// let token = BearerToken::parse("aGVhZGVy.cGF5bG9hZA.c2lnbmF0dXJl")?;
/// assert_eq!(format!("{token:?}"), "BearerToken(<redacted>)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(Zeroizing<String>);

/// Error of parsing a service account token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct InvalidBearerToken(Unfit);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error("the token is empty")]
    Empty,
    #[error("the token has {length} bytes, want at most {}", BearerToken::MAX_LENGTH)]
    TooLong { length: usize },
    #[error(
        "the token is not three parts of base64url joined by dots (is there a line feed or a space in it?)"
    )]
    NotCompact,
}

impl InvalidBearerToken {
    /// Returns the stable code of the error.
    #[doc(hidden)]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::TokenMalformed
    }
}

impl BearerToken {
    /// Maximum length of a token, in bytes: 12 KiB. Kubernetes tokens have about 1.2 KiB. Those of external signers with
    /// many claims stay below 8 KiB.
    pub const MAX_LENGTH: usize = 12 * 1024;

    /// Parses a token in the compact form, with the pattern of EKS Auth: three parts of `[A-Za-z0-9-_=]`, joined by
    /// dots.
    ///
    /// # Errors
    /// [`InvalidBearerToken`] if the text cannot be a token. The error contains no part of the text.
    pub fn parse(text: &str) -> Result<Self, InvalidBearerToken> {
        if text.is_empty() {
            return Err(InvalidBearerToken(Unfit::Empty));
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(InvalidBearerToken(Unfit::TooLong { length: text.len() }));
        }
        let mut parts = text.split('.');
        let compact = parts.by_ref().take(3).filter(|part| is_part(part)).count() == 3;
        if !compact || parts.next().is_some() {
            return Err(InvalidBearerToken(Unfit::NotCompact));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// Returns the secret token, for code that sends or verifies it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn is_part(part: &str) -> bool {
    // Without a branch for each byte, the compiler vectorizes the loop.
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

/// The SHA-256 of a token. Maps use it as the key in place of the token.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

#[cfg(feature = "verify")]
impl TokenDigest {
    /// Returns the digest of a token.
    pub fn of(token: &BearerToken) -> Self {
        Self::of_text(token.expose().as_bytes())
    }

    /// Returns the digest of a text that may be a token, to look it up among the known tokens.
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
    fn token_is_never_printed() {
        let token = BearerToken::parse("c2VjcmV0.c2VjcmV0.c2VjcmV0").unwrap();
        assert!(!format!("{token:?} {:#?}", Some(&token)).contains("c2VjcmV0"));
        assert_eq!(format!("{token:?}"), "BearerToken(<redacted>)");
        assert_eq!(token.expose(), "c2VjcmV0.c2VjcmV0.c2VjcmV0");
    }

    #[test]
    fn rejects_text_that_cannot_be_a_token() {
        assert_eq!(BearerToken::parse(""), Err(InvalidBearerToken(Unfit::Empty)));
        let longest = format!("a.b.{}", "c".repeat(BearerToken::MAX_LENGTH - 4));
        assert!(BearerToken::parse(&longest).is_ok());
        let long = format!("{longest}c");
        assert_eq!(
            BearerToken::parse(&long),
            Err(InvalidBearerToken(Unfit::TooLong { length: 12 * 1024 + 1 }))
        );
        for text in ["a", "a.b", "a.b.c.d", "a..c", "a.b.c\n", "a b.c.d", "a.b.ç", "Bearer a.b.c"] {
            assert_eq!(BearerToken::parse(text), Err(InvalidBearerToken(Unfit::NotCompact)), "{text:?}");
        }
    }
}
