//! The issuers of one cluster.

use std::sync::Arc;
use std::time::SystemTime;

use pod_identity_core::token::{BearerToken, TokenError, VerifiedToken, claimed_issuer};

use super::IssuerKeys;

/// The issuers whose tokens a cluster accepts, each with its own keys: those of the API server's
/// `--service-account-issuer` flags. A cluster has several while it changes its issuer, since tokens of the old
/// issuer stay valid until they expire (Kubernetes, *Configure Service Accounts for Pods*, service account issuer).
///
/// A token is verified with the keys of the issuer that it names, to the letter, and of no other. Clones share the keys.
#[derive(Debug, Clone)]
pub struct AcceptedIssuers(Arc<[Arc<IssuerKeys>]>);

impl AcceptedIssuers {
    /// Accepts tokens of these issuers. Without any, every token is refused.
    pub fn new(issuers: Vec<Arc<IssuerKeys>>) -> Self {
        Self(issuers.into())
    }

    /// The issuers, in the configured order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<IssuerKeys>> {
        self.0.iter()
    }

    /// The keys for verifying the token, chosen by its unverified `iss` claim.
    fn of(&self, token: &BearerToken) -> Result<&Arc<IssuerKeys>, TokenError> {
        if let [only] = &*self.0 {
            return Ok(only);
        }
        let issuer = claimed_issuer(token)?;
        self.iter().find(|keys| keys.issuer() == issuer).ok_or_else(|| TokenError::IssuerWrong {
            issuer,
            expected: self.iter().map(|keys| keys.issuer().to_owned()).collect(),
        })
    }

    /// Verifies a token, as [`IssuerKeys::verify`].
    ///
    /// # Errors
    /// [`TokenError`], see [`verify`](pod_identity_core::token::verify()).
    pub async fn verify(
        &self,
        token: &BearerToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<VerifiedToken, TokenError> {
        self.of(token)?.verify(token, audience, now).await
    }

    /// Verifies a token with the keys that are there, as [`IssuerKeys::verify_now`].
    ///
    /// # Errors
    /// [`TokenError`], see [`verify`](pod_identity_core::token::verify()).
    pub fn verify_now(
        &self,
        token: &BearerToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<VerifiedToken, TokenError> {
        self.of(token)?.verify_now(token, audience, now)
    }

    /// Fetches the keys of the token's issuer, as [`IssuerKeys::fetch_for_request`].
    pub async fn fetch_for_request(&self, token: &BearerToken) {
        if let Ok(keys) = self.of(token) {
            keys.fetch_for_request().await;
        }
    }

    /// Counts the changes of the keys of all issuers, see [`IssuerKeys::generation`].
    pub fn generation(&self) -> u64 {
        self.iter().map(|keys| keys.generation()).sum()
    }

    /// Whether the keys of at least one issuer were fetched.
    pub fn have_keys(&self) -> bool {
        self.iter().any(|keys| keys.current().is_some())
    }
}
