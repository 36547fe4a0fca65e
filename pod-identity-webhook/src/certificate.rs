//! The certificate of `/mutate`: from files, or self-managed in a Secret.

use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::certificate::{CertificateConfig, CertificateController, WebhookConfiguration};
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::{ServerTls, TlsError};
use prometheus_client::registry::Registry;

use crate::config::{Certificate, Config, SelfManagedCertificate};

/// The certificate that the listener serves.
#[derive(Debug)]
pub struct TlsCertificate {
    tls: ServerTls,
    controller: Option<CertificateController<WebhookConfiguration>>,
}

impl TlsCertificate {
    /// Reads the files, or prepares a self-managed certificate. It does not call the API server.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used.
    pub fn open(
        config: &Config,
        client: &kube::Client,
        readiness: &Readiness,
        registry: &mut Registry,
    ) -> Result<Self, TlsError> {
        let tls = match &config.certificate {
            Certificate::Files(files) => ServerTls::read(files.clone(), config.tls)?,
            Certificate::SelfManaged(_) => ServerTls::in_memory(config.tls),
        };
        let tls = match &config.client_ca {
            Some(path) => tls.with_client_ca(path)?,
            None => tls,
        };
        tls.register_expiry(registry, "pod_identity_webhook_certificate_expires_seconds");
        let controller = match &config.certificate {
            Certificate::Files(_) => None,
            Certificate::SelfManaged(certificate) => {
                let registry = registry.sub_registry_with_prefix("pod_identity_webhook");
                Some(controller(&config.namespace, certificate, client, &tls, readiness, registry))
            }
        };
        Ok(Self { tls, controller })
    }

    /// Returns the TLS side of a listener.
    pub fn tls(&self) -> ServerTls {
        self.tls.clone()
    }

    /// Renews the certificate, or reads its files again when they change, until the end.
    pub async fn follow(self, end: Shutdown) {
        let tls = self.tls.clone();
        let files = tls.follow(end.clone());
        match self.controller {
            None => drop(tokio::join!(files, self.tls.warn_when_overdue(end))),
            // The client CA comes from a file.
            Some(controller) => drop(tokio::join!(files, controller.run(end))),
        }
    }
}

fn controller(
    namespace: &str,
    certificate: &SelfManagedCertificate,
    client: &kube::Client,
    tls: &ServerTls,
    readiness: &Readiness,
    registry: &mut Registry,
) -> CertificateController<WebhookConfiguration> {
    let SelfManagedCertificate { secret, service, configuration, lifetime, wait } = certificate;
    let publication = WebhookConfiguration::new(client.clone(), configuration, namespace, service);
    let config = CertificateConfig {
        namespace: namespace.to_owned(),
        secret: secret.clone(),
        dns_name: format!("{service}.{namespace}.svc"),
        common_name: "pod-identity-webhook",
        lifetime: *lifetime,
        wait: *wait,
    };
    CertificateController::new(config, client.clone(), publication, tls.clone(), readiness.clone(), registry)
}
