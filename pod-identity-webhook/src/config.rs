//! What the program is told, checked.

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
    /// What is injected.
    pub settings: Settings,
    /// The port of `/mutate`.
    pub port: u16,
    /// The port of `/metrics`.
    pub metrics_port: u16,
    /// Where the certificate comes from.
    pub certificate: Certificate,
    /// The oldest version of TLS that is spoken.
    pub tls: TlsVersion,
    /// The CA certificates that sign the API servers' client certificates; without it, reviews need none.
    pub client_ca: Option<PathBuf>,
    /// How the API server is reached.
    pub api_server: ApiServer,
    /// The namespace of this program, of its certificate and of the ConfigMap.
    pub namespace: String,
    /// Where it is known from what an account says.
    pub account_read: AccountRead,
    /// Whether roles are looked for in the ConfigMap `pod-identity-webhook` too.
    pub watch_config_map: bool,
    /// The file of accounts that have Pod Identity.
    pub identities: Option<PathBuf>,
    /// The file of associations.
    pub associations: Option<Associations>,
    /// How often all pods are looked at for what they lack; not at all if `None`.
    pub reconcile_interval: Option<Duration>,
    /// How long to go on serving after the end was asked for.
    pub shutdown_delay: Duration,
    /// The flags that limit connections and requests of one peer.
    pub limits: LimitFlags,
    /// Flags that were given and are without effect, as they are on the command line.
    pub without_effect: Vec<&'static str>,
}

/// The source of the certificate for `/mutate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// Files, which cert-manager or another program renews.
    Files(CertificateFiles),
    /// A Secret. The replicas renew the certificate.
    SelfManaged(SelfManagedCertificate),
}

/// A certificate that the replicas issue and renew: the objects that hold it, and its lifetime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfManagedCertificate {
    /// The Secret with the certificate and its key.
    pub secret: String,
    /// The Service that API servers call.
    pub service: String,
    /// The MutatingWebhookConfiguration whose entries call the Service.
    pub configuration: String,
    /// Lifetime of a certificate. The next one is made after two thirds of it.
    pub lifetime: Duration,
    /// Time for API servers to learn an authority.
    pub wait: Duration,
}

/// Where it is known from what an account says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccountRead {
    /// From a read for each review.
    #[default]
    Fresh,
    /// From what a watch has seen: behind by a moment, as AWS's webhook is.
    Cache,
    /// Not at all: their annotations do not count.
    Never,
}

impl FromStr for AccountRead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fresh" => Ok(Self::Fresh),
            "cache" => Ok(Self::Cache),
            "never" => Ok(Self::Never),
            other => Err(format!("{other:?} is neither fresh, cache nor never")),
        }
    }
}

/// The associations that pod-identity-auth serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Associations {
    /// Its file.
    pub file: PathBuf,
    /// This cluster: the file may have those of others, too.
    pub cluster: ClusterName,
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A flag's value that cannot be used.
    #[error("--{flag}: {value:?} is not {expected}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What it would have to be.
        expected: &'static str,
    },
    /// Two tokens in one place.
    #[error("--{first} and --{second} are both {value:?}: the two tokens need places of their own")]
    Same {
        /// One flag.
        first: &'static str,
        /// The other one.
        second: &'static str,
        /// What both say.
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
    /// A role's name without the account that it lies in.
    #[error("--compose-role-arn needs --aws-account-id: this program does not ask the instance for it")]
    NoAccount,
    /// An account or partition that nothing is made of.
    #[error("--aws-account-id and --aws-partition belong to --compose-role-arn")]
    NoComposition,
    /// Associations of an unknown cluster.
    #[error("--associations needs --cluster-name: the file may have associations of several clusters")]
    NoCluster,
    /// A cluster's name that nothing is looked up by.
    #[error("--cluster-name belongs to --associations")]
    NoAssociations,
}

impl Config {
    /// Refuses what pods could not start with, or what would give a token to somebody else.
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
        // An empty audience is the API server's own: a token that is good there is not to go to AWS.
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
                "a path from /, without : and ..",
            )?;
        }
        let token = pod_identity;
        let (file, volume) = ("container-credentials-token-path", "container-credentials-token-volume-name");
        must(is_relative_path(&token.file), file, &token.file, "a path below the mount, without ..")?;
        must(is_label(&token.volume), volume, &token.volume, "a volume's name (a DNS label)")?;
        must(is_taken_by_sdks(full_uri), "container-credentials-full-uri", full_uri, SDKS_TAKE)?;
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
            "another name than that of IRSA's volume",
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

const SDKS_TAKE: &str =
    "a URI that SDKs take: https, or http to loopback, 169.254.170.2, 169.254.170.23 or [fd00:ec2::23]";

/// Whether the SDKs' container provider asks there (AWS SDKs reference guide, *Container credential provider*).
fn is_taken_by_sdks(uri: &str) -> bool {
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

/// What the API server takes as a mount path, and kubelet can make a directory of.
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
