//! A parsed pod token.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::claims::read_claims;
use super::{BearerToken, Claims, TokenDigest, TokenError};
#[cfg(feature = "service")]
use crate::identity::Node;
use crate::identity::WorkloadIdentity;

/// A pod token with its digest and its claims, parsed once for each request. Clones share the data.
///
/// Nothing in it is verified. [`verify`](super::verify()) or the upstream verifies the token.
///
/// ```
/// use pod_identity_core::token::{PodToken, TokenError};
///
/// let error = PodToken::parse("not a token").unwrap_err();
/// assert!(matches!(error, TokenError::Unparsable(_)));
/// ```
#[derive(Clone)]
pub struct PodToken(Arc<Parsed>);

struct Parsed {
    bearer: BearerToken,
    digest: TokenDigest,
    claims: Claims,
    identity: Result<(Arc<WorkloadIdentity>, SystemTime), TokenError>,
}

impl PodToken {
    /// Parses a token in the compact form of RFC 7515.
    ///
    /// # Errors
    /// [`TokenError`] if the text is not a JSON Web Token with the claims of a Kubernetes service account.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        Self::new(BearerToken::parse(text)?)
    }

    /// Parses a token in valid compact form.
    pub(crate) fn new(bearer: BearerToken) -> Result<Self, TokenError> {
        let claims = read_claims(&bearer)?;
        let identity = claims.identity().map(|(identity, expires_at)| (Arc::new(identity), expires_at));
        let digest = TokenDigest::of(&bearer);
        Ok(Self(Arc::new(Parsed { bearer, digest, claims, identity })))
    }

    /// Returns the token, for code that sends it to the upstream.
    pub fn bearer(&self) -> &BearerToken {
        &self.0.bearer
    }

    /// Returns the SHA-256 of the token.
    #[doc(hidden)]
    pub fn digest(&self) -> TokenDigest {
        self.0.digest
    }

    /// Returns the pod of the token's claims, and the token's expiry. Both are unverified.
    ///
    /// # Errors
    /// [`TokenError`] if the token is not bound to a pod, or its claims contradict each other.
    pub fn unverified_identity(&self) -> Result<(&Arc<WorkloadIdentity>, SystemTime), TokenError> {
        match &self.0.identity {
            Ok((identity, expires_at)) => Ok((identity, *expires_at)),
            Err(error) => Err(error.clone()),
        }
    }

    /// Returns the node of the pod without verification.
    #[cfg(feature = "service")]
    pub(crate) fn unverified_node(&self) -> Result<Option<Node>, TokenError> {
        Ok(self.0.claims.node()?)
    }

    /// Returns the unverified issuer.
    pub fn unverified_issuer(&self) -> &str {
        &self.0.claims.iss
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.0.claims
    }
}

impl fmt::Debug for PodToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PodToken(<redacted>)")
    }
}
