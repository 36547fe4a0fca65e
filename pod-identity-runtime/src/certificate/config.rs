//! The configuration of a certificate.

use std::time::Duration;

/// The name and the lifetime of a certificate, and the Secret that holds it.
///
/// ```
/// use std::time::Duration;
///
/// use pod_identity_runtime::certificate::{CertificateConfig, minimum_lifetime};
///
/// let config = CertificateConfig {
///     namespace: "pod-identity".to_owned(),
///     secret: "pod-identity-webhook".to_owned(),
///     dns_name: "pod-identity-webhook.pod-identity.svc".to_owned(),
///     common_name: "pod-identity-webhook",
///     lifetime: Duration::from_secs(90 * 24 * 60 * 60),
///     wait: Duration::from_secs(60),
/// };
/// assert!(config.lifetime >= minimum_lifetime(config.wait));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateConfig {
    /// The namespace of the Secret.
    pub namespace: String,
    /// The name of the Secret.
    pub secret: String,
    /// The DNS name by which clients call the program: the only subject alternative name.
    pub dns_name: String,
    /// The common name of the certificate, and the beginning of the authority's: the program's name.
    pub common_name: &'static str,
    /// Lifetime of a generation. The next generation is made after two thirds of it.
    pub lifetime: Duration,
    /// Time for clients to learn an authority after its publication. More than zero.
    pub wait: Duration,
}

/// Returns the minimum lifetime for this wait.
///
/// The last third of a lifetime must be enough for two waits: one until the new certificate is served, and one until old
/// authorities are trimmed. The rest is for API calls and for an API server that is slow.
pub fn minimum_lifetime(wait: Duration) -> Duration {
    wait.saturating_mul(6).saturating_add(Duration::from_secs(30))
}
