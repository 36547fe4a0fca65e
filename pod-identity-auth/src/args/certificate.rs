//! Flags of the self-managed certificate. Their names are those of the webhook's flags.

use std::path::PathBuf;
use std::time::Duration;

use pod_identity_runtime::certificate::MOUNTED_WAIT;
use pod_identity_runtime::kubernetes::ApiServer;

use crate::config::SelfManagedCertificate;

/// The flags of the self-managed certificate. All of them need `--tls-secret`.
#[derive(Debug, clap::Args)]
pub(super) struct CertificateFlags {
    /// Secret of the self-managed certificate, which the replicas create and renew. Without it, TLS uses the files of
    /// --tls-cert and --tls-key.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["tls_cert", "tls_key"])]
    tls_secret: Option<String>,

    /// With --tls-secret: the ConfigMap that agents mount. Its entry ca.crt gets the CA certificates.
    #[arg(long, value_name = "NAME", default_value = "pod-identity-auth-ca", requires = "tls_secret")]
    ca_config_map: String,

    /// With --tls-secret: the Service whose name the certificate has.
    #[arg(long, value_name = "NAME", default_value = "pod-identity-auth", requires = "tls_secret")]
    service_name: String,

    /// With --tls-secret: the namespace of Secret, ConfigMap and Service.
    #[arg(long, value_name = "NAME", default_value = "pod-identity", requires = "tls_secret")]
    namespace: String,

    /// With --tls-secret: the lifetime of a certificate, in seconds. It is replaced after two thirds of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 7_776_000, requires = "tls_secret")] // 90 days
    certificate_lifetime: u32,

    /// With --tls-secret: the time for agents to read a new CA certificate before its certificate is served, in
    /// seconds. kubelet needs about two minutes to update a mounted ConfigMap.
    #[arg(long, value_name = "SECONDS", default_value_t = seconds(MOUNTED_WAIT), requires = "tls_secret")]
    certificate_wait: u32,

    /// With --tls-secret: a kubeconfig file that names the API server. Without it, the program uses the service account
    /// of its pod.
    #[arg(long, value_name = "FILE", requires = "tls_secret")]
    kubeconfig: Option<PathBuf>,

    /// With --tls-secret: the API server's URL. It takes precedence over the kubeconfig file.
    #[arg(long, value_name = "URL", requires = "tls_secret")]
    kube_api: Option<String>,
}

impl CertificateFlags {
    /// Returns the self-managed certificate, if there is one.
    pub(super) fn certificate(self) -> Option<SelfManagedCertificate> {
        Some(SelfManagedCertificate {
            secret: self.tls_secret?,
            api_server: ApiServer { kubeconfig: self.kubeconfig, url: self.kube_api },
            namespace: self.namespace,
            service: self.service_name,
            config_map: self.ca_config_map,
            lifetime: Duration::from_secs(self.certificate_lifetime.into()),
            wait: Duration::from_secs(self.certificate_wait.into()),
        })
    }
}

fn seconds(time: Duration) -> u32 {
    time.as_secs().try_into().unwrap_or(u32::MAX)
}
