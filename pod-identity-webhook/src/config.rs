//! The configuration, validated.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use pod_identity_core::identity::ClusterName;
use pod_identity_core::inject::Settings;
use pod_identity_runtime::certificate::minimum_lifetime;
pub use pod_identity_runtime::kubernetes::ApiServer;
use pod_identity_runtime::listener::LimitFlags;
use pod_identity_runtime::tls::{CertificateFiles, TlsVersion};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Settings of injection.
    pub settings: Settings,
    /// The port of `/mutate`.
    pub port: u16,
    /// The port of `/metrics`.
    pub metrics_port: u16,
    /// Where the certificate comes from.
    pub certificate: Certificate,
    /// The lowest version of TLS.
    pub tls: TlsVersion,
    /// CA certificates of the API servers' client certificates. Without it, reviews need no client certificate.
    pub client_ca: Option<PathBuf>,
    /// The address and credentials of the API server.
    pub api_server: ApiServer,
    /// The namespace of the webhook, its certificate and the ConfigMap.
    pub namespace: String,
    /// Source of the annotations of service accounts.
    pub service_account_read: ServiceAccountRead,
    /// The name of this pod, which Kubernetes Events of `report` show.
    pub pod: Option<String>,
    /// Whether the ConfigMap `pod-identity-webhook` is a source of roles.
    pub watch_config_map: bool,
    /// The file of service accounts with Pod Identity.
    pub pod_identity_file: Option<PathBuf>,
    /// The file of associations.
    pub associations: Option<Associations>,
    /// The pause between two readings of `report`; `None` for the webhook.
    pub report_interval: Option<Duration>,
    /// Time to serve after a signal to stop.
    pub shutdown_delay: Duration,
    /// The flags that limit connections and requests of one peer.
    pub limits: LimitFlags,
    /// Flags of AWS's webhook that were given and have no effect, without their dashes.
    pub without_effect: Vec<&'static str>,
}

/// Source of the certificate of `/mutate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// Files, which another program such as cert-manager replaces.
    Files(CertificateFiles),
    /// A Secret. The replicas renew the certificate.
    SelfManaged(SelfManagedCertificate),
}

/// A certificate that the replicas issue and renew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfManagedCertificate {
    /// The Secret with the certificate and its key.
    pub secret: String,
    /// The Service that API servers call.
    pub service: String,
    /// The MutatingWebhookConfiguration whose entries call the Service.
    pub configuration: String,
    /// Lifetime of a certificate. It is replaced after two thirds of it.
    pub lifetime: Duration,
    /// Time for API servers to learn an authority.
    pub wait: Duration,
}

/// Source of the annotations of service accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServiceAccountRead {
    /// A read of the API server for each review.
    #[default]
    Fresh,
    /// A watch, which lags by moments, as in AWS's webhook.
    Cache,
    /// No source: annotations have no effect.
    Never,
}

impl fmt::Display for ServiceAccountRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Cache => "cache",
            Self::Never => "never",
        })
    }
}

impl FromStr for ServiceAccountRead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fresh" => Ok(Self::Fresh),
            "cache" => Ok(Self::Cache),
            "never" => Ok(Self::Never),
            other => Err(format!("found {other:?}, want fresh, cache or never")),
        }
    }
}

/// The file of associations that `pod-identity-auth` serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Associations {
    /// The file.
    pub file: PathBuf,
    /// The name of this cluster: the file may have associations of several clusters.
    pub cluster: ClusterName,
}

/// Why a configuration is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A flag has an invalid value.
    #[error("--{flag} is {value:?}, want {expected}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// The expected value.
        expected: &'static str,
    },
    /// Two tokens have the same path.
    #[error("--{first} and --{second} are both {value:?}: give the two tokens different paths")]
    Same {
        /// One flag.
        first: &'static str,
        /// The other one.
        second: &'static str,
        /// The value of both.
        value: String,
    },
    /// A certificate that could expire before API servers know the next one.
    #[error(
        "--certificate-lifetime is {lifetime} s and --certificate-wait {wait} s: the lifetime must be at least six times \
         the wait and 30 s more, and the wait more than 0"
    )]
    Lifetime {
        /// The lifetime, in seconds.
        lifetime: u64,
        /// The wait, in seconds.
        wait: u64,
    },
    /// Role names need an AWS account.
    #[error("--compose-role-arn needs --aws-account-id: give the AWS account of the roles")]
    NoAccount,
    /// An AWS account or partition has no use.
    #[error(
        "--aws-account-id and --aws-partition have no use without --compose-role-arn: add it, or remove them"
    )]
    NoComposition,
    /// Associations need the cluster's name.
    #[error(
        "--associations needs --cluster-name, since the file may have several clusters: give the name of this cluster"
    )]
    NoCluster,
    /// A cluster's name has no use.
    #[error("--cluster-name has no use without --associations: add it, or remove --cluster-name")]
    NoAssociations,
}

impl Config {
    /// Checks the settings: pods must be able to start with them, and no token may reach another audience.
    ///
    /// # Errors
    /// [`ConfigError`] with the flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Settings { pod_identity, web_identity, full_uri, annotation_prefix, .. } = &self.settings;
        let must = |holds: bool, flag, value: &str, expected| {
            let wrong = || ConfigError::Value { flag, value: value.to_owned(), expected };
            holds.then_some(()).ok_or_else(wrong)
        };
        must(
            is_subdomain(annotation_prefix),
            "annotation-prefix",
            annotation_prefix,
            "a DNS name in lower case",
        )?;
        // A token with an empty audience is valid at the API server, and AWS must not get one.
        for (flag, token) in
            [("token-audience", web_identity), ("container-credentials-audience", pod_identity)]
        {
            must(!token.audience.is_empty(), flag, &token.audience, "an audience")?;
        }
        for (flag, token) in
            [("token-mount-path", web_identity), ("container-credentials-token-mount-path", pod_identity)]
        {
            must(
                is_mount_path(&token.mount_path),
                flag,
                &token.mount_path,
                "an absolute path without : and ..",
            )?;
        }
        let token = pod_identity;
        let (file, volume) = ("container-credentials-token-path", "container-credentials-token-volume-name");
        must(is_relative_path(&token.file), file, &token.file, "a relative path without ..")?;
        must(is_label(&token.volume), volume, &token.volume, "the name of a volume (a DNS label)")?;
        must(is_accepted_by_sdks(full_uri), "container-credentials-full-uri", full_uri, ACCEPTED_URI)?;
        if token.mount_path.trim_end_matches('/') == web_identity.mount_path.trim_end_matches('/') {
            return Err(ConfigError::Same {
                first: "token-mount-path",
                second: "container-credentials-token-mount-path",
                value: token.mount_path.clone(),
            });
        }
        must(
            token.volume != web_identity.volume,
            volume,
            &token.volume,
            "a name other than that of IRSA's volume",
        )?;
        match &self.certificate {
            Certificate::SelfManaged(SelfManagedCertificate { lifetime, wait, .. }) => {
                let fits = !wait.is_zero() && *lifetime >= minimum_lifetime(*wait);
                let refused = ConfigError::Lifetime { lifetime: lifetime.as_secs(), wait: wait.as_secs() };
                fits.then_some(()).ok_or(refused)
            }
            Certificate::Files(_) => Ok(()),
        }
    }
}

const ACCEPTED_URI: &str =
    "a URI that SDKs accept: https, or http to loopback, 169.254.170.2, 169.254.170.23 or [fd00:ec2::23]";

/// Returns whether the container provider of SDKs accepts a URI (AWS SDKs reference guide, *Container credential provider*).
fn is_accepted_by_sdks(uri: &str) -> bool {
    let host = |rest: &str| rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned();
    if !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return false;
    }
    if let Some(rest) = uri.strip_prefix("https://") {
        return !host(rest).is_empty() && !host(rest).contains('@');
    }
    let Some(authority) = uri.strip_prefix("http://").map(host) else { return false };
    let (name, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let named = matches!(name, "localhost" | "169.254.170.2" | "169.254.170.23" | "fd00:ec2::23");
    port_fits && (named || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()))
}

/// Returns whether the API server accepts a mount path and the kubelet can create it.
fn is_mount_path(path: &str) -> bool {
    path.starts_with('/') && is_relative_path(path.trim_matches('/'))
}

fn is_relative_path(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != ".." && part != ".";
    !path.contains(':') && !path.contains('\\') && path.split('/').all(part)
}

fn is_subdomain(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    text.parse::<pod_identity_core::identity::Namespace>().is_ok() // the same rule: an RFC 1123 label
}
