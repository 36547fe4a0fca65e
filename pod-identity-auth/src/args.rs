//! Command line.

mod certificate; // flags of the self-managed certificate

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use pod_identity_core::arn::AccountId;
use pod_identity_core::identity::ClusterName;
use pod_identity_runtime::association_file::{ClusterEntry, IssuerEntry, KeysEntry};
use pod_identity_runtime::listener::{LimitFlags, Limits};
use pod_identity_runtime::logs::{LogFormat, LogLevel};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::tls::CertificateFiles;

use self::certificate::CertificateFlags;
use crate::config::{
    AgentAuthConfig, AuditFailure, Certificate, Config, ConfigError, DEFAULT_CAPACITY, SessionNaming,
    default_service,
};

/// EKS Auth for clusters that are not EKS: exchanges a pod token for the credentials of an IAM role session.
///
/// AWS credentials come from the SDK's default chain (environment, profile, web identity, container, instance). The
/// region comes from AWS_REGION, and another STS endpoint from AWS_ENDPOINT_URL_STS.
#[derive(Debug, Parser)]
#[command(name = "pod-identity-auth", version)]
pub struct Args {
    /// The address of EKS Auth. An address that is not loopback needs TLS and --agent-auth.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443", env = "POD_IDENTITY_AUTH_LISTEN")]
    listen: SocketAddr,

    /// The address of /healthz, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8444", env = "POD_IDENTITY_AUTH_ADMIN")]
    admin: SocketAddr,

    /// The file of clusters and associations (YAML or JSON). It is read again after a change.
    #[arg(long, value_name = "FILE", env = "POD_IDENTITY_AUTH_ASSOCIATIONS")]
    associations: PathBuf,

    /// A cluster in addition to those of the file.
    #[arg(long, value_name = "NAME", requires = "issuer")]
    cluster_name: Option<ClusterName>,

    /// The token issuer of --cluster-name: exactly the value of the API server's --service-account-issuer. Repeat the
    /// flag for several issuers. All of them use the keys of the flags below, or each the keys of its discovery
    /// document.
    #[arg(long, value_name = "URL", requires = "cluster_name")]
    issuer: Vec<String>,

    /// The URL of the issuer's public keys. Default: the jwks_uri of its discovery document.
    #[arg(long, value_name = "URL", requires = "issuer", conflicts_with = "jwks_file")]
    jwks_url: Option<String>,

    /// The file of the issuer's public keys (JWKS).
    #[arg(long, value_name = "FILE", requires = "issuer")]
    jwks_file: Option<PathBuf>,

    /// CA certificates for the issuer, in addition to the system's (PEM).
    #[arg(long, value_name = "FILE", requires = "issuer")]
    issuer_ca_file: Option<PathBuf>,

    /// The file of a bearer token for the issuer. kube-apiserver requires one from clients that read its keys.
    #[arg(long, value_name = "FILE", requires = "issuer")]
    issuer_token_file: Option<PathBuf>,

    /// The AWS region of --cluster-name. With --account-id, sessions have the tag eks-cluster-arn, and associations may
    /// have target roles.
    #[arg(long, value_name = "REGION", requires = "account_id", requires = "cluster_name")]
    region: Option<String>,

    /// The AWS account of --cluster-name.
    #[arg(long, value_name = "ACCOUNT", requires = "region")]
    account_id: Option<AccountId>,

    /// Authentication of agents: sigv4 (with a key of --agent-keys-file; AWS's agent supports only this) or token (with
    /// a service account token of audience pod-identity-auth, which also proves the node).
    #[arg(long, value_name = "KIND", value_parser = ["sigv4", "token"], env = "POD_IDENTITY_AUTH_AGENT_AUTH")]
    agent_auth: Option<String>,

    /// With sigv4: the file of keys (YAML or JSON: a list of accessKeyId and secretAccessKey). It is read again after a
    /// change.
    #[arg(long, value_name = "FILE")]
    agent_keys_file: Option<PathBuf>,

    /// With token: the service account of the agents. Repeat the flag for several. Default:
    /// kube-system/eks-pod-identity-agent.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    agent_service_account: Vec<String>,

    /// The TLS certificate chain (PEM). It is read again after a change.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The TLS private key (PEM). It is read again after a change.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    #[command(flatten)]
    certificate: CertificateFlags,

    /// The session names: random (eks-CLUSTER-POD-UUID, as EKS) or stable (the pod's UID in place of the random UUID,
    /// so that renewals keep the name).
    #[arg(long, value_name = "KIND", default_value = "random")]
    session_name: SessionNaming,

    /// Maximum number of cached sessions, at about 3 KiB each. The cache saves calls when agents restart, and serves
    /// pods while STS is down. With 0, every request is a call to STS.
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_CAPACITY)]
    session_cache: usize,

    /// The result of an exchange whose audit line cannot be written, for example to a full disk: drop (the exchange
    /// succeeds, and a metric counts the line) or refuse (the agent gets the retryable error audit_unwritten).
    #[arg(long, value_name = "POLICY", default_value = "drop", env = "POD_IDENTITY_AUTH_AUDIT_FAILURE")]
    audit_failure: AuditFailure,

    #[command(flatten)]
    limits: LimitFlags,

    /// CA certificates for STS, in addition to the system's (PEM).
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    ca_file: Option<PathBuf>,

    /// The log level: error, warn, info, debug or trace. Audit lines are written at every level.
    #[arg(long, short = 'v', value_name = "LEVEL", default_value = "info", env = "POD_IDENTITY_LOG")]
    pub log_level: LogLevel,

    /// The log format: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "POD_IDENTITY_LOG_FORMAT")]
    pub log_format: LogFormat,
}

impl Args {
    /// Converts the flags to a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if flags contradict each other, or if the configuration is unsafe.
    pub fn config(self) -> Result<Config, ConfigError> {
        let default = vec!["kube-system/eks-pod-identity-agent".to_owned()];
        let given = &self.agent_service_account;
        let service_accounts = if given.is_empty() { &default } else { given };
        let agent_auth = match (self.agent_auth.as_deref(), self.agent_keys_file) {
            (Some("token"), None) => {
                Some(AgentAuthConfig::token(service_accounts.iter().map(String::as_str))?)
            }
            (Some("token"), Some(_)) => return Err(ConfigError::KeysWithToken),
            _ if !self.agent_service_account.is_empty() => {
                return Err(ConfigError::ServiceAccountsWithoutToken);
            }
            (_, Some(keys_file)) => Some(AgentAuthConfig::SigV4 { keys_file }),
            (Some(_), None) => return Err(ConfigError::SigV4WithoutKeys),
            (None, None) => None,
        };
        let cluster = self.cluster_name.map(|name| ClusterEntry {
            name,
            issuers: self.issuer.into_iter().map(IssuerEntry::from).collect(),
            region: self.region,
            account_id: self.account_id,
            keys: KeysEntry {
                jwks_url: self.jwks_url,
                jwks_file: self.jwks_file,
                ca_file: self.issuer_ca_file,
                bearer_token_file: self.issuer_token_file,
            },
        });
        let mut service = default_service();
        service.capacity = self.session_cache;
        let config = Config {
            listen: self.listen,
            admin: Some(self.admin),
            associations: self.associations,
            cluster,
            agent_auth,
            tls: match self.tls_cert.zip(self.tls_key) {
                Some((certificate, key)) => Some(Certificate::Files(CertificateFiles { certificate, key })),
                None => self.certificate.certificate().map(Certificate::SelfManaged),
            },
            session_naming: self.session_name,
            service,
            audit_failure: self.audit_failure,
            limits: self.limits.apply(Limits::default()),
            outbound: Outbound { ca_file: self.ca_file, proxy_from_environment: true },
        };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[&str]) -> Result<Config, ConfigError> {
        let mut command = vec!["pod-identity-auth", "--associations", "associations.yaml"];
        command.extend(flags);
        Args::try_parse_from(command).unwrap().config()
    }

    #[test]
    fn loopback_needs_neither_tls_nor_agent_auth() {
        assert!(config(&[]).unwrap().agent_auth.is_none());
    }

    #[test]
    fn address_that_is_not_loopback_needs_tls_and_agent_auth() {
        let open = ["--listen", "0.0.0.0:8443"];
        let tls = ["--tls-cert", "c.pem", "--tls-key", "k.pem"];
        let keys = ["--agent-keys-file", "keys.yaml"];
        assert!(matches!(config(&open), Err(ConfigError::ExposedWithoutTls(_))));
        assert!(matches!(config(&[&open[..], &tls].concat()), Err(ConfigError::ExposedWithoutAgentAuth(_))));
        assert!(matches!(config(&[&open[..], &keys].concat()), Err(ConfigError::ExposedWithoutTls(_))));
        assert!(config(&[&open[..], &tls, &keys].concat()).is_ok());
        assert!(config(&[&open[..], &tls, &["--agent-auth", "token"]].concat()).is_ok());
    }

    #[test]
    fn self_managed_certificate_is_tls_and_waits_for_mounted_config_maps() {
        let open = "--listen=0.0.0.0:8443 --agent-auth=token --tls-secret=pod-identity-auth";
        let with = |more: &str| config(&format!("{open} {more}").split_whitespace().collect::<Vec<_>>());
        let Some(Certificate::SelfManaged(certificate)) = with("").unwrap().tls else { panic!() };
        assert_eq!(certificate.wait, std::time::Duration::from_secs(600));
        assert_eq!(certificate.config_map, "pod-identity-auth-ca");
        assert!(matches!(with("--certificate-wait=0"), Err(ConfigError::Lifetime { .. })));
        assert!(matches!(with("--certificate-lifetime=3629"), Err(ConfigError::Lifetime { .. })));
        assert!(with("--certificate-lifetime=3630").is_ok());
        for refused in
            ["--tls-secret=a --tls-cert=b --tls-key=c", "--ca-config-map=a", "--certificate-wait=9"]
        {
            let flags = ["pod-identity-auth", "--associations=a"].into_iter().chain(refused.split(' '));
            assert!(Args::try_parse_from(flags).is_err(), "{refused}");
        }
    }

    #[test]
    fn refuses_contradicting_flags() {
        assert!(matches!(config(&["--agent-auth", "sigv4"]), Err(ConfigError::SigV4WithoutKeys)));
        let both = ["--agent-auth", "token", "--agent-keys-file", "k"];
        assert!(matches!(config(&both), Err(ConfigError::KeysWithToken)));
        let service_account = ["--agent-service-account", "a/b"];
        assert!(matches!(config(&service_account), Err(ConfigError::ServiceAccountsWithoutToken)));
        let bad = ["--agent-auth", "token", "--agent-service-account", "agent"];
        assert!(matches!(config(&bad), Err(ConfigError::ServiceAccount(_))));
    }

    #[test]
    fn docs_list_every_flag() {
        let page = include_str!("../../docs/reference/auth.md");
        testing::flags::every_flag_is_in(page, &<Args as clap::CommandFactory>::command());
    }
}
