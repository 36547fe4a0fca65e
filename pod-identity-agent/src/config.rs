//! The configuration, and its checks.

use std::net::SocketAddr;
use std::path::PathBuf;

use aws_config::SdkConfig;
use pod_identity_core::identity::{ClusterName, NodeName};
use pod_identity_core::service::{Clock, Issuer, ServiceConfig, TokenVerification};
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyFetcher, KeyLocation};
use pod_identity_runtime::kubernetes::ApiServer;
use pod_identity_runtime::listener::Limits;
use pod_identity_runtime::outbound::{Outbound, OutboundError, check_url};

use crate::network::OffNodeAction;
use crate::startup_taint::StartupTaint;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The pods' cluster.
    pub cluster: ClusterName,
    /// Addresses that serve credentials.
    pub listen: Vec<SocketAddr>,
    /// Addresses that serve health, readiness and metrics.
    pub admin: Vec<SocketAddr>,
    /// The connection to EKS Auth.
    pub eks_auth: EksAuthConfig,
    /// The source of keys that verify tokens.
    pub keys: TokenKeys,
    /// Durations and limits of the credential service.
    pub service: ServiceConfig,
    /// The limits of connections and requests.
    pub limits: Limits,
    /// The treatment of requests from outside the node.
    pub off_node: OffNodeAction,
    /// The API server.
    pub api_server: ApiServer,
    /// The checks of pods.
    pub pods: PodsConfig,
    /// The clock of the credential service.
    pub clock: Clock,
    /// The taint that the agent removes from its node when it is ready.
    pub startup_taint: Option<StartupTaint>,
}

/// The checks of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodsConfig {
    /// The name of this node. `None`: pods of other nodes are served, too.
    pub node: Option<NodeName>,
    /// Whether the pods of the node are watched.
    pub watch: bool,
    /// Whether a request must come from an address of its pod.
    pub bind_address: bool,
}

/// The source of keys that verify tokens. While the agent has no keys, a token is valid after EKS Auth has accepted it.
#[derive(Debug, Clone)]
pub enum TokenKeys {
    /// Keys of these issuers. A token is refused if the keys of its issuer do not verify it.
    Configured(Vec<IssuerConfig>),
    /// Keys of the issuer of the first token that EKS Auth accepts. They save calls. EKS Auth decides about a token of
    /// an unknown key or issuer.
    Learned(Outbound),
    /// No keys.
    None,
}

impl TokenKeys {
    /// Makes the verification of the credential service.
    ///
    /// # Errors
    /// [`OutboundError`] if a CA file cannot be read.
    pub fn verification(self) -> Result<TokenVerification, OutboundError> {
        Ok(match self {
            Self::Configured(configs) => {
                let issuer = |config| KeyFetcher::new(config).map(KeyFetcher::into_issuer);
                configs.into_iter().map(issuer).collect::<Result<Vec<Issuer>, _>>()?.into()
            }
            Self::Learned(outbound) => {
                outbound.sdk_client_with_late_ca(None)?; // reports an unusable CA file at the start
                TokenVerification::discovered(move |issuer| {
                    let fetcher = KeyFetcher::discovered(issuer.to_owned(), outbound.clone());
                    fetcher.map(KeyFetcher::into_issuer).ok()
                })
            }
            Self::None => TokenVerification::upstream(),
        })
    }
}

/// The connection to EKS Auth.
#[derive(Debug, Clone)]
pub struct EksAuthConfig {
    /// The URL. `None`: AWS's endpoint of the region.
    pub endpoint: Option<String>,
    /// The authentication of the agent.
    pub agent_auth: AgentAuth,
    /// CA certificates and proxy.
    pub outbound: Outbound,
    /// Region and credentials. `None`: those of the environment.
    pub sdk_config: Option<SdkConfig>,
}

/// The authentication of the agent at EKS Auth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentAuth {
    /// AWS Signature Version 4.
    SigV4,
    /// AWS Signature Version 4. Keys in a shared credentials file are read again each minute.
    SigV4RotatedFile,
    /// The agent's own service account token.
    Token {
        /// The token's file.
        file: PathBuf,
    },
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Tokens would cross a network unencrypted.
    #[error("--endpoint: {0}")]
    Endpoint(OutboundError),
    /// The issuer's keys would cross a network unencrypted, and an attacker could replace them.
    #[error("the issuer's keys: {0}")]
    Issuer(OutboundError),
    /// Two issuers are the same.
    #[error("--issuer {0:?} is given twice: remove one")]
    IssuerTwice(String),
    /// The number of key locations is neither one nor the number of issuers.
    #[error(
        "--{flag} is given {locations} times for {issuers} issuers: give it once for all, or once for each --issuer"
    )]
    KeyLocations {
        /// The flag.
        flag: &'static str,
        /// Number of times the flag is given.
        locations: usize,
        /// Number of times `--issuer` is given.
        issuers: usize,
    },
    /// The cluster name has a dot, which EKS does not allow.
    #[error(
        "--cluster-name {0} has a dot, which EKS does not allow: give the URL of pod-identity-auth with --endpoint"
    )]
    DotWithoutEndpoint(ClusterName),
    /// The token file has no effect.
    #[error("--agent-token-file has no effect without --agent-auth token: add it, or remove the file")]
    TokenFileWithoutToken,
    /// EKS Auth of AWS accepts no agent tokens.
    #[error("--agent-auth token is for pod-identity-auth: give its URL with --endpoint")]
    TokenWithoutEndpoint,
    /// The watch does not know its node.
    #[error(
        "--watch-pods needs the name of this node: set --node-name or NODE_NAME to the pod's spec.nodeName"
    )]
    WatchWithoutNode,
    /// The addresses of pods are unknown.
    #[error("--bind-pod-ip needs --watch-pods, which reads the pods' addresses: add it")]
    BindWithoutWatch,
    /// The node of the startup taint is unknown.
    #[error(
        "--remove-startup-taint needs the name of this node: set --node-name or NODE_NAME to the pod's spec.nodeName"
    )]
    NoNodeName,
    /// The list of addresses is empty.
    #[error("--bind-hosts is empty: give at least one address")]
    NoAddress,
}

impl Config {
    /// Creates a configuration with the default limits, without keys and without admin endpoints.
    pub fn new(cluster: ClusterName, listen: Vec<SocketAddr>, eks_auth: EksAuthConfig) -> Self {
        Self {
            cluster,
            listen,
            admin: Vec::new(),
            eks_auth,
            keys: TokenKeys::None,
            service: ServiceConfig::default(),
            limits: Limits::default(),
            off_node: OffNodeAction::Off,
            api_server: ApiServer::default(),
            pods: PodsConfig::default(),
            clock: Clock::default(),
            startup_taint: None,
        }
    }

    /// Refuses an unsafe configuration.
    ///
    /// # Errors
    /// [`ConfigError`] with the cause.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        let issuers: &[IssuerConfig] = match &self.keys {
            TokenKeys::Configured(issuers) => issuers,
            TokenKeys::Learned(_) | TokenKeys::None => &[],
        };
        for (index, issuer) in issuers.iter().enumerate() {
            if issuers[..index].iter().any(|other| other.issuer == issuer.issuer) {
                return Err(ConfigError::IssuerTwice(issuer.issuer.clone()));
            }
            let url = match &issuer.keys {
                KeyLocation::Discovery => Some(&issuer.issuer),
                KeyLocation::Url(url) => Some(url),
                KeyLocation::File(_) => None,
            };
            url.map(|url| check_url(url)).transpose().map_err(ConfigError::Issuer)?;
        }
        if self.eks_auth.endpoint.is_none() && self.cluster.as_str().contains('.') {
            return Err(ConfigError::DotWithoutEndpoint(self.cluster.clone()));
        }
        match &self.eks_auth.endpoint {
            Some(url) => check_url(url).map(drop).map_err(ConfigError::Endpoint),
            None if matches!(self.eks_auth.agent_auth, AgentAuth::Token { .. }) => {
                Err(ConfigError::TokenWithoutEndpoint)
            }
            None => Ok(()),
        }
    }
}
