//! The certificate of the service: from files, or self-managed in a Secret.

use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::certificate::{CaConfigMap, CertificateConfig, CertificateController};
use pod_identity_runtime::files::FileMetrics;
use pod_identity_runtime::kubernetes::{self, ClientError};
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::{ServerTls, TlsError, TlsVersion};
use prometheus_client::registry::Registry;

use crate::config::{Certificate, SelfManagedCertificate};

/// The program's name in the API server's audit log.
const USER_AGENT: &str = concat!("pod-identity-auth/", env!("CARGO_PKG_VERSION"));

/// The certificate that the listener serves.
#[derive(Debug)]
pub struct TlsCertificate {
    tls: ServerTls,
    controller: Option<CertificateController<CaConfigMap>>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no client for the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl TlsCertificate {
    /// Reads the files, or prepares a self-managed certificate. It does not call the API server.
    ///
    /// # Errors
    /// [`CertificateError`] if the files, or the settings of the API server, cannot be used.
    pub async fn open(
        certificate: Certificate,
        files: &FileMetrics,
        readiness: &Readiness,
        registry: &mut Registry,
    ) -> Result<Self, CertificateError> {
        let (tls, controller) = match certificate {
            Certificate::Files(pair) => (ServerTls::read(pair, TlsVersion::default())?.counted(files), None),
            Certificate::SelfManaged(certificate) => {
                let tls = ServerTls::in_memory(TlsVersion::default());
                let client = kubernetes::client(&certificate.api_server, USER_AGENT).await?;
                let SelfManagedCertificate { namespace, secret, service, config_map, lifetime, wait, .. } =
                    certificate;
                let publication = CaConfigMap::new(client.clone(), &namespace, &config_map);
                let config = CertificateConfig {
                    dns_name: format!("{service}.{namespace}.svc"),
                    namespace,
                    secret,
                    common_name: "pod-identity-auth",
                    lifetime,
                    wait,
                };
                let registry = registry.sub_registry_with_prefix("pod_identity_auth");
                let (shown, readiness) = (tls.clone(), readiness.clone());
                let controller =
                    CertificateController::new(config, client, publication, shown, readiness, registry);
                (tls, Some(controller))
            }
        };
        tls.register_expiry(registry, "pod_identity_auth_certificate_expires_seconds");
        Ok(Self { tls, controller })
    }

    /// Returns the TLS side of a listener.
    pub fn tls(&self) -> ServerTls {
        self.tls.clone()
    }

    /// Renews the certificate, or reads its files again when they change, until the shutdown.
    pub async fn follow(self, shutdown: Shutdown) {
        match self.controller {
            Some(controller) => controller.run(shutdown).await,
            None => {
                let files = self.tls.clone().follow(shutdown.clone());
                tokio::join!(files, self.tls.warn_when_overdue(shutdown));
            }
        }
    }
}
