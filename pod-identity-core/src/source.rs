//! The one seam to AWS: whoever can turn a pod's token into credentials.

use std::future::Future;

use crate::credentials::SessionCredentials;
use crate::identity::{Namespace, ServiceAccount};
use crate::token::BearerToken;

/// What an exchange yields: credentials, and the subject that they were issued for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectCredentials {
    /// The namespace that the issuer names.
    pub namespace: Namespace,
    /// The service account that the issuer names.
    pub service_account: ServiceAccount,
    /// The credentials.
    pub credentials: SessionCredentials,
}

/// Exchanges a pod's token for credentials: EKS Auth, ours or AWS's, or a vendor's own service.
pub trait CredentialSource: Send + Sync {
    /// Why an exchange fails.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Exchanges one token.
    fn exchange(
        &self,
        token: &BearerToken,
    ) -> impl Future<Output = Result<SubjectCredentials, Self::Error>> + Send;
}
