//! Command line: the flags of AWS's agent, and additional ones.

mod network;
mod pods;

#[cfg(target_os = "linux")]
pub use network::InitializeArgs;
pub use network::NetworkFlags;
pub use pods::PodFlags;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use pod_identity_core::identity::ClusterName;
use pod_identity_core::service::{Clock, ServiceConfig};
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyLocation};
use pod_identity_runtime::listener::{LimitFlags, Limits};
use pod_identity_runtime::logs::{LogFormat, LogLevel};
use pod_identity_runtime::outbound::Outbound;

use crate::config::{AgentAuth, Config, ConfigError, EksAuthConfig, TokenKeys};
use crate::startup_taint::StartupTaint;

/// Default file of the agent's own token.
const AGENT_TOKEN_FILE: &str = "/var/run/secrets/pod-identity-auth/serviceaccount/token";

/// The node agent of EKS Pod Identity.
#[derive(Debug, Parser)]
#[command(name = "eks-pod-identity-agent", version)]
pub struct Args {
    /// The command.
    #[command(subcommand)]
    pub command: Command,

    /// The log level: error, warn, info, debug or trace. No level logs a secret.
    #[arg(
        long = "verbosity",
        alias = "log-level",
        short = 'v',
        value_name = "LEVEL",
        default_value = "info",
        env = "POD_IDENTITY_LOG",
        global = true
    )]
    pub log_level: LogLevel,

    /// The log format: text or json.
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        env = "POD_IDENTITY_LOG_FORMAT",
        global = true
    )]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve credentials to the pods of this node.
    Server(Box<ServerArgs>),
    /// Add the agent's addresses to this node. It needs the capability NET_ADMIN. A second run changes nothing.
    #[cfg(target_os = "linux")]
    Initialize(InitializeArgs),
}

/// The flags of `server`.
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// The cluster name for EKS Auth.
    #[arg(long, short = 'c', value_name = "NAME")]
    cluster_name: ClusterName,

    /// The port that serves credentials.
    #[arg(long, short = 'p', value_name = "PORT", default_value_t = 80)]
    port: u16,

    /// The addresses that serve credentials. An address that this node does not have is skipped with a warning. At
    /// least one must exist.
    #[arg(
        long,
        short = 'b',
        value_name = "ADDRESS",
        value_delimiter = ',',
        default_value = "169.254.170.23,fd00:ec2::23"
    )]
    bind_hosts: Vec<IpAddr>,

    /// The port of /healthz, /readyz and /metrics on 127.0.0.1. 0 selects a free port.
    #[arg(long, value_name = "PORT", default_value_t = 2703)]
    probe_port: u16,

    /// A second port of /healthz, /readyz and /metrics, on --metrics-address. Default: none.
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,

    /// The address of --metrics-port.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    metrics_address: IpAddr,

    /// The URL of pod-identity-auth: https, or http to a loopback address. Default: EKS Auth of AWS.
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL_EKS_AUTH")]
    endpoint: Option<String>,

    /// Authentication at EKS Auth: sigv4 (with the AWS credentials of the environment, as AWS's agent) or token (with
    /// the agent's own service account token; pod-identity-auth only).
    #[arg(long, value_name = "KIND", value_parser = ["sigv4", "token"], default_value = "sigv4")]
    agent_auth: String,

    /// With token: the file of the agent's token (audience pod-identity-auth), which is read for each call. Default:
    /// /var/run/secrets/pod-identity-auth/serviceaccount/token.
    #[arg(long, value_name = "FILE")]
    agent_token_file: Option<PathBuf>,

    /// CA certificates for EKS Auth, in addition to the system's (PEM).
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    ca_file: Option<PathBuf>,

    /// CA certificates for the token issuer, in addition to the system's (PEM). Default: those of --ca-file.
    #[arg(long, value_name = "FILE")]
    issuer_ca_file: Option<PathBuf>,

    /// The cluster's token issuer: the value of the API server's --service-account-issuer. The agent verifies tokens
    /// with the issuer's keys and refuses the others. Repeat the flag for several issuers. Default: see --learn-keys.
    #[arg(long, value_name = "URL")]
    issuer: Vec<String>,

    /// The URL of the issuer's public keys. Give it once for all issuers, or once for each --issuer in the same order.
    /// Default: the jwks_uri of the issuer's discovery document.
    #[arg(long, value_name = "URL", requires = "issuer", conflicts_with = "jwks_file")]
    jwks_url: Vec<String>,

    /// The file of the issuer's public keys (JWKS). Give it once for all issuers, or once for each --issuer in the same
    /// order.
    #[arg(long, value_name = "FILE", requires = "issuer")]
    jwks_file: Vec<PathBuf>,

    /// Without --issuer: whether the agent fetches the issuer's keys, from the API server of its own pod's cluster, or
    /// over https from the issuer of the first token that EKS Auth accepts. The agent can then verify a new token
    /// without a call. With false, EKS Auth must accept each token.
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true)]
    learn_keys: bool,

    /// Maximum number of pods with cached credentials. Beyond it, the least recently used credentials are dropped.
    #[arg(long, value_name = "ENTRIES", default_value = "2000")]
    max_cache_size: NonZeroUsize,

    /// Maximum number of renewals per second. The agent exceeds it if the cached credentials would otherwise expire.
    /// Calls for waiting requests do not count.
    #[arg(long, value_name = "CALLS", value_parser = renewal_rate, default_value = "3")]
    max_service_qps: f64,

    /// The key of a taint that the agent removes from its own node when it is ready, so that pods start after the agent.
    /// It needs --node-name. Default: none.
    #[arg(long, value_name = "KEY")]
    remove_startup_taint: Option<String>,

    #[command(flatten)]
    limits: LimitFlags,

    #[command(flatten)]
    network: NetworkFlags,

    #[command(flatten)]
    pods: PodFlags,

    /// Accepted for compatibility with AWS's agent. Credentials are renewed at about half of their lifetime. For
    /// credentials of six hours this is AWS's default of three hours.
    #[arg(long, value_name = "DURATION", hide = true)]
    max_credential_retention_before_renewal: Option<String>,

    /// With sigv4: read the keys in the shared credentials file (AWS_SHARED_CREDENTIALS_FILE) again each minute, because
    /// another program replaces them.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    rotate_credentials: Option<bool>,
}

impl ServerArgs {
    /// Converts the flags to a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if flags contradict each other, or if the configuration is unsafe.
    pub fn config(self) -> Result<Config, ConfigError> {
        if self.max_credential_retention_before_renewal.is_some() {
            tracing::warn!(
                "--max-credential-retention-before-renewal has no effect: renewals follow the credentials' lifetime"
            );
        }
        let outbound = Outbound { ca_file: self.ca_file, proxy_from_environment: true };
        let issuer_outbound =
            Outbound { ca_file: self.issuer_ca_file.or(outbound.ca_file.clone()), ..outbound.clone() };
        let keys = match (self.issuer, self.learn_keys) {
            (issuers, _) if !issuers.is_empty() => {
                let locations = locations(self.jwks_url, self.jwks_file, issuers.len())?;
                let config = |(issuer, keys)| IssuerConfig {
                    issuer,
                    keys,
                    bearer_token_file: None,
                    outbound: issuer_outbound.clone(),
                };
                TokenKeys::Configured(issuers.into_iter().zip(locations).map(config).collect())
            }
            (_, true) => TokenKeys::Learned(issuer_outbound),
            (_, false) => TokenKeys::None,
        };
        let agent_auth = match self.agent_auth.as_str() {
            "token" => {
                AgentAuth::Token { file: self.agent_token_file.unwrap_or_else(|| AGENT_TOKEN_FILE.into()) }
            }
            _ if self.agent_token_file.is_some() => return Err(ConfigError::TokenFileWithoutToken),
            _ if self.rotate_credentials == Some(true) => AgentAuth::SigV4RotatedFile,
            _ => AgentAuth::SigV4,
        };
        let mut service = ServiceConfig::default();
        service.capacity = self.max_cache_size.get();
        service.limits.renewals_per_second = self.max_service_qps;
        let probe = SocketAddr::from(([127, 0, 0, 1], self.probe_port));
        let metrics = self.metrics_port.map(|port| SocketAddr::new(self.metrics_address, port));
        let startup_taint =
            self.remove_startup_taint.map(|key| startup_taint(key, &self.pods)).transpose()?;
        let config = Config {
            cluster: self.cluster_name,
            listen: self.bind_hosts.iter().map(|host| SocketAddr::new(*host, self.port)).collect(),
            admin: std::iter::once(probe).chain(metrics).collect(),
            eks_auth: EksAuthConfig { endpoint: self.endpoint, agent_auth, outbound, sdk_config: None },
            keys,
            service,
            limits: self.limits.apply(Limits::default()),
            off_node: self.network.off_node,
            api_server: self.pods.api_server(),
            pods: self.pods.config()?,
            clock: Clock::default(),
            startup_taint,
        };
        config.check()?;
        Ok(config)
    }
}

/// Returns the startup taint of this node.
fn startup_taint(key: String, pods: &PodFlags) -> Result<StartupTaint, ConfigError> {
    let node = pods.node_name.as_ref().ok_or(ConfigError::NoNodeName)?;
    Ok(StartupTaint { key, node: node.to_string(), api_server: pods.api_server() })
}

/// Returns the key location of each issuer, in the order of the issuers.
fn locations(
    urls: Vec<String>,
    files: Vec<PathBuf>,
    issuers: usize,
) -> Result<Vec<KeyLocation>, ConfigError> {
    let flag = if urls.is_empty() { "jwks-file" } else { "jwks-url" };
    let given: Vec<_> =
        urls.into_iter().map(KeyLocation::Url).chain(files.into_iter().map(KeyLocation::File)).collect();
    match given.as_slice() {
        [] => Ok(vec![KeyLocation::Discovery; issuers]),
        [one] => Ok(vec![one.clone(); issuers]),
        several if several.len() == issuers => Ok(given),
        several => Err(ConfigError::KeyLocations { flag, locations: several.len(), issuers }),
    }
}

/// Parses a number of renewals per second, which must be above 0.
fn renewal_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if f64::is_finite(rate) && rate > 0.0 => Ok(rate),
        _ => Err("not a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(cluster: &str, flags: &[&str]) -> Result<Config, ConfigError> {
        let mut command = vec!["eks-pod-identity-agent", "server", "--cluster-name", cluster];
        command.extend(flags);
        let Ok(Args { command: Command::Server(args), .. }) = Args::try_parse_from(command) else { panic!() };
        args.config()
    }

    fn config(flags: &[&str]) -> Result<Config, ConfigError> {
        named("demo", flags)
    }

    #[test]
    fn accepts_the_command_line_of_the_aws_chart() {
        let flags = "--port 80 --probe-port 2703 --metrics-port 2705 -v trace --rotate-credentials true";
        let config = config(&flags.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(
            config.listen,
            ["169.254.170.23:80".parse().unwrap(), "[fd00:ec2::23]:80".parse().unwrap()]
        );
        assert_eq!(config.admin, ["127.0.0.1:2703".parse().unwrap(), "0.0.0.0:2705".parse().unwrap()]);
    }

    #[test]
    fn default_renewal_rate_is_that_of_aws() {
        assert_eq!(config(&[]).unwrap().service.limits.renewals_per_second, 3.0);
        assert_eq!(config(&["--max-service-qps", "12.5"]).unwrap().service.limits.renewals_per_second, 12.5);
        for refused in ["0", "-1", "NaN", "inf", "many", ""] {
            let flag = format!("--max-service-qps={refused}");
            let command = ["eks-pod-identity-agent", "server", "--cluster-name", "demo", &flag];
            assert!(Args::try_parse_from(command).is_err(), "{refused}");
        }
    }

    #[test]
    fn metrics_stay_on_loopback_without_metrics_port() {
        assert_eq!(config(&[]).unwrap().admin, ["127.0.0.1:2703".parse().unwrap()]);
    }

    #[test]
    fn keys_are_learned_unless_configured_or_turned_off() {
        for (flags, keys) in [
            (&[][..], "Learned("),
            (&["--learn-keys", "true"], "Learned("),
            (&["--learn-keys=false"], "None"),
            (&["--issuer", "https://a.test"], "Configured("),
            (&["--issuer", "https://a.test", "--learn-keys=true"], "Configured("),
        ] {
            let config = config(flags).unwrap();
            assert!(format!("{:?}", config.keys).starts_with(keys), "{flags:?}: {:?}", config.keys);
        }
    }

    #[test]
    fn key_locations_are_one_for_all_issuers_or_one_for_each() {
        let issuers = ["--issuer", "https://new.test", "--issuer", "https://old.test"];
        let located = |flags: &[&str]| {
            let TokenKeys::Configured(configs) = config(&[&issuers[..], flags].concat())?.keys else {
                panic!()
            };
            Ok::<_, ConfigError>(configs.into_iter().map(|one| (one.issuer, one.keys)).collect::<Vec<_>>())
        };
        let (new, old) = ("https://new.test".to_owned(), "https://old.test".to_owned());
        let file = |name: &str| KeyLocation::File(name.into());
        assert_eq!(
            located(&[]).unwrap(),
            [(new.clone(), KeyLocation::Discovery), (old.clone(), KeyLocation::Discovery)]
        );
        let shared = located(&["--jwks-file", "keys"]).unwrap();
        assert_eq!(shared, [(new.clone(), file("keys")), (old.clone(), file("keys"))]);
        let own = located(&["--jwks-file", "a", "--jwks-file", "b"]).unwrap();
        assert_eq!(own, [(new, file("a")), (old, file("b"))]);
        let three = ["--jwks-file", "a", "--jwks-file", "b", "--jwks-file", "c"];
        let error = located(&three).unwrap_err().to_string();
        assert!(error.contains("--jwks-file is given 3 times for 2 issuers"), "{error}");
        let twice = config(&["--issuer", "https://a.test", "--issuer", "https://a.test"]).unwrap_err();
        assert!(twice.to_string().contains("twice"), "{twice}");
    }

    #[test]
    fn cluster_name_with_a_dot_needs_an_endpoint() {
        assert!(named("k8s.example.com", &["--endpoint", "https://auth.example.com"]).is_ok());
        let error = named("k8s.example.com", &[]).unwrap_err().to_string();
        assert!(error.contains("k8s.example.com") && error.contains("--endpoint"), "{error}");
    }

    #[test]
    fn endpoint_that_is_not_loopback_needs_https() {
        for (url, accepted) in [
            ("https://auth.example.com:8443", true),
            ("http://127.0.0.1:8443", true),
            ("http://[::1]:8443", true),
            ("http://10.0.0.1:8443", false),
            ("http://auth.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("auth.example.com", false),
        ] {
            assert_eq!(config(&["--endpoint", url]).is_ok(), accepted, "{url}");
        }
    }

    #[test]
    fn docs_list_every_flag() {
        let page = include_str!("../../docs/reference/agent.md");
        testing::flags::every_flag_is_in(page, &<Args as clap::CommandFactory>::command());
    }
}
