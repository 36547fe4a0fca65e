//! The command line.

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

use crate::config::{
    AgentAuthConfig, AuditFailure, Config, ConfigError, DEFAULT_CAPACITY, SessionNaming, default_service,
};

/// EKS Auth for clusters that are not EKS: a pod's token in, an IAM role session out.
///
/// AWS credentials come from the SDK's default chain (environment, profile, web identity, container,
/// instance), the region from AWS_REGION, another STS endpoint from AWS_ENDPOINT_URL_STS.
#[derive(Debug, Parser)]
#[command(name = "pod-identity-auth", version)]
pub struct Args {
    /// The address to serve EKS Auth on. Off loopback it needs TLS and --agent-auth.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443", env = "POD_IDENTITY_AUTH_LISTEN")]
    listen: SocketAddr,

    /// The address for /healthz, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8444", env = "POD_IDENTITY_AUTH_ADMIN")]
    admin: SocketAddr,

    /// The file of clusters and associations (YAML or JSON); read again when it changes.
    #[arg(long, value_name = "FILE", env = "POD_IDENTITY_AUTH_ASSOCIATIONS")]
    associations: PathBuf,

    /// A cluster beside those of the file.
    #[arg(long, value_name = "NAME", requires = "issuer")]
    cluster_name: Option<ClusterName>,

    /// That cluster's token issuer: the API server's --service-account-issuer, to the letter. May be given more than
    /// once, as there; all of them have the keys of the flags below, or each those of its discovery document.
    #[arg(long, value_name = "URL", requires = "cluster_name")]
    issuer: Vec<String>,

    /// Where the issuer's public keys are; without it, at the jwks_uri of its discovery document.
    #[arg(long, value_name = "URL", requires = "issuer", conflicts_with = "jwks_file")]
    jwks_url: Option<String>,

    /// A file with the issuer's public keys.
    #[arg(long, value_name = "FILE", requires = "issuer")]
    jwks_file: Option<PathBuf>,

    /// Certificates to trust for the issuer beside the system's (PEM).
    #[arg(long, value_name = "FILE", requires = "issuer")]
    issuer_ca_file: Option<PathBuf>,

    /// A file with a bearer token for the issuer, as kube-apiserver asks of clients that read its keys.
    #[arg(long, value_name = "FILE", requires = "issuer")]
    issuer_token_file: Option<PathBuf>,

    /// That cluster's region: with --account-id, its sessions have the tag eks-cluster-arn, and its
    /// associations may have target roles.
    #[arg(long, value_name = "REGION", requires = "account_id", requires = "cluster_name")]
    region: Option<String>,

    /// That cluster's AWS account.
    #[arg(long, value_name = "ACCOUNT", requires = "region")]
    account_id: Option<AccountId>,

    /// How agents prove themselves: sigv4 (a key of --agent-keys-file; what AWS's own agent can) or
    /// token (a service account token of audience pod-identity-auth, which proves the node too).
    #[arg(long, value_name = "KIND", value_parser = ["sigv4", "token"], env = "POD_IDENTITY_AUTH_AGENT_AUTH")]
    agent_auth: Option<String>,

    /// With sigv4: a file of keys (YAML or JSON: a list of accessKeyId, secretAccessKey); read again
    /// when it changes.
    #[arg(long, value_name = "FILE")]
    agent_keys_file: Option<PathBuf>,

    /// With token: a service account that agents run under. May be given more than once.
    /// Without it: kube-system/eks-pod-identity-agent.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    agent_service_account: Vec<String>,

    /// The TLS certificate chain (PEM); read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The TLS private key (PEM); read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// How sessions are named: random (eks-CLUSTER-POD-UUID, as EKS) or stable (the pod's UID in the
    /// UUID's place, so that renewals keep the name).
    #[arg(long, value_name = "KIND", default_value = "random")]
    session_name: SessionNaming,

    /// Maximum number of cached sessions. The cache saves calls when agents restart, and serves pods while STS is
    /// down. A session takes about 3 KiB. 0: every request is a call to STS.
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_CAPACITY)]
    session_cache: usize,

    /// What happens to an exchange whose audit line cannot be written (full disk, log reader gone): drop (it
    /// succeeds, and a metric counts the line) or refuse (the agent gets the retryable error audit_unwritten).
    #[arg(long, value_name = "POLICY", default_value = "drop", env = "POD_IDENTITY_AUTH_AUDIT_FAILURE")]
    audit_failure: AuditFailure,

    #[command(flatten)]
    limits: LimitFlags,

    /// Certificates to trust for STS beside the system's (PEM).
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    ca_file: Option<PathBuf>,

    /// How much to log: error, warn, info, debug or trace. Audit lines are always written.
    #[arg(long, short = 'v', value_name = "LEVEL", default_value = "info", env = "POD_IDENTITY_LOG")]
    pub log_level: LogLevel,

    /// text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "POD_IDENTITY_LOG_FORMAT")]
    pub log_format: LogFormat,
}

impl Args {
    /// What the flags mean together.
    ///
    /// # Errors
    /// [`ConfigError`] where they contradict each other, or where serving so would not be safe.
    pub fn config(self) -> Result<Config, ConfigError> {
        let default = vec!["kube-system/eks-pod-identity-agent".to_owned()];
        let given = &self.agent_service_account;
        let service_accounts = if given.is_empty() { &default } else { given };
        let agent_auth = match (self.agent_auth.as_deref(), self.agent_keys_file) {
            (Some("token"), None) => {
                Some(AgentAuthConfig::token(service_accounts.iter().map(String::as_str))?)
            }
            (Some("token"), Some(_)) => return Err(ConfigError::KeysWithToken),
            _ if !self.agent_service_account.is_empty() => return Err(ConfigError::AccountsWithoutToken),
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
            tls: self
                .tls_cert
                .zip(self.tls_key)
                .map(|(certificate, key)| CertificateFiles { certificate, key }),
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
    fn off_loopback_it_refuses_to_start_without_tls_and_agent_auth() {
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
    fn flags_that_contradict_each_other_are_refused() {
        assert!(matches!(config(&["--agent-auth", "sigv4"]), Err(ConfigError::SigV4WithoutKeys)));
        let both = ["--agent-auth", "token", "--agent-keys-file", "k"];
        assert!(matches!(config(&both), Err(ConfigError::KeysWithToken)));
        let accounts = ["--agent-service-account", "a/b"];
        assert!(matches!(config(&accounts), Err(ConfigError::AccountsWithoutToken)));
        let bad = ["--agent-auth", "token", "--agent-service-account", "agent"];
        assert!(matches!(config(&bad), Err(ConfigError::ServiceAccount(_))));
    }

    #[test]
    fn every_flag_is_in_its_page() {
        let page = include_str!("../../docs/reference/auth.md");
        testing::flags::every_flag_is_in(page, &<Args as clap::CommandFactory>::command());
    }
}
