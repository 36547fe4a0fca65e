//! The steps of a request, for a service with its own steps between them.

use std::sync::Arc;

use super::{CredentialError, CredentialService, Credentials, Peer};
use crate::association::Association;
use crate::cluster::Cluster;
use crate::error::ErrorCode;
use crate::identity::ClusterName;
use crate::token::{BearerToken, POD_IDENTITY_AUDIENCE, PodToken, TokenError, VerifiedToken};

/// A pod whose token was verified with keys.
#[derive(Debug, Clone)]
pub struct VerifiedPod {
    pub(super) token: PodToken,
    pub(super) verified: VerifiedToken,
    pub(super) cluster: Arc<Cluster>,
    /// The generation of known tokens before the verification, so that the token is not remembered under newer keys.
    pub(super) generation: u64,
}

/// A verified pod with the association of its service account.
#[derive(Debug, Clone)]
pub struct AuthorizedPod {
    pub(super) pod: VerifiedPod,
    pub(super) association: Arc<Association>,
}

impl VerifiedPod {
    /// Returns the verified token.
    pub fn token(&self) -> &VerifiedToken {
        &self.verified
    }
}

impl AuthorizedPod {
    /// Returns the association.
    pub fn association(&self) -> &Arc<Association> {
        &self.association
    }

    /// Returns the cluster.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.pod.cluster
    }
}

/// The steps of [`credentials`](Self::credentials). The auth service writes audit lines between them.
impl CredentialService {
    /// Verifies a pod token of a cluster.
    ///
    /// # Errors
    /// [`CredentialError`] if the cluster is unknown or has no keys, or the token is invalid.
    pub async fn verify(&self, cluster: &ClusterName, token: &str) -> Result<VerifiedPod, CredentialError> {
        self.verify_for(cluster, token, POD_IDENTITY_AUDIENCE).await
    }

    /// Verifies the token of a caller. The token has the same issuers as pod tokens, and another audience.
    ///
    /// # Errors
    /// [`CredentialError`] if the cluster is unknown or has no keys, or the token is invalid.
    pub async fn verify_caller(
        &self,
        cluster: &ClusterName,
        token: &str,
        audience: &str,
    ) -> Result<VerifiedToken, CredentialError> {
        Ok(self.verify_for(cluster, token, audience).await?.verified)
    }

    /// Checks the cluster first: an unknown cluster is the error for any token.
    async fn verify_for(
        &self,
        cluster: &ClusterName,
        token: &str,
        audience: &str,
    ) -> Result<VerifiedPod, CredentialError> {
        let inner = &self.0.inner;
        let generation = inner.cache.generation();
        let bearer = BearerToken::parse(token).map_err(TokenError::from)?;
        let clusters = inner.clusters.load_full();
        let verifying = clusters.named(cluster)?;
        let token = PodToken::new(bearer)?;
        let verified = verifying.verify(&token, audience, inner.clock.now().wall).await?;
        let (verified, cluster) = (verified.ok_or(TokenError::KeysMissing)?, verifying.cluster.clone());
        Ok(VerifiedPod { token, verified, cluster, generation })
    }

    /// Finds the association of a verified pod.
    ///
    /// # Errors
    /// [`CredentialError`] if the service account has no association, or the store cannot be read.
    pub async fn authorize(&self, pod: VerifiedPod) -> Result<AuthorizedPod, CredentialError> {
        let inner = &self.0.inner;
        match inner.in_time(inner.association(&pod.cluster, &pod.verified.identity)).await? {
            Some(association) => Ok(AuthorizedPod { pod, association }),
            None => Err(CredentialError::new(ErrorCode::Internal, "the service has no association lookup")),
        }
    }

    /// Returns the credentials of an authorized pod.
    ///
    /// # Errors
    /// [`CredentialError`] from the source.
    pub async fn issue(&self, pod: &AuthorizedPod) -> Result<Credentials, CredentialError> {
        let AuthorizedPod { pod, association } = pod;
        let VerifiedPod { token, verified, cluster, generation } = pod;
        let inner = &self.0.inner;
        let key = inner.key(cluster.clone(), verified.identity.clone(), Some(association.clone()));
        let serving = async {
            for _ in 0..super::serve::ATTEMPTS {
                let verified = Some((key.clone(), verified.expires_at));
                if let Some(served) = self.attempt(token, verified, *generation, Peer::Local).await {
                    return served;
                }
            }
            Err(super::serve::cancelled_repeatedly())
        };
        let served = tokio::time::timeout(inner.config.request_deadline, serving).await;
        served.unwrap_or_else(|_| Err(inner.upstream.not_yet(inner.config.request_deadline)))
    }
}
