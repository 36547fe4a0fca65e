//! What the agent is told, checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use aws_config::SdkConfig;
use pod_identity_core::identity::ClusterName;
use pod_identity_core::service::{Clock, Issuer, ServiceConfig, TokenVerification};
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyFetcher, KeyLocation};
use pod_identity_runtime::listener::Limits;
use pod_identity_runtime::outbound::{Outbound, OutboundError, check_url};

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster whose pods ask.
    pub cluster: ClusterName,
    /// Where to serve credentials.
    pub listen: Vec<SocketAddr>,
    /// Where to serve health, readiness and metrics.
    pub admin: Vec<SocketAddr>,
    /// Whom to ask.
    pub eks_auth: Destination,
    /// The keys to verify tokens with.
    pub keys: TokenKeys,
    /// Durations and limits of the credential service.
    pub service: ServiceConfig,
    /// The limits of connections and requests.
    pub limits: Limits,
    /// The clock of the credential service.
    pub clock: Clock,
}

/// Where the keys that verify tokens come from. While there are none, a token is good once EKS Auth has
/// accepted it.
#[derive(Debug, Clone)]
pub enum TokenKeys {
    /// Keys of these issuers. A token that the keys of its issuer do not verify is refused.
    Configured(Vec<IssuerConfig>),
    /// From the issuer of the first token that EKS Auth accepts: they save calls, and refuse only what
    /// they refute.
    Learned(Outbound),
    /// From nowhere.
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
                outbound.getter()?; // an unreadable CA file ends the start
                TokenVerification::discovered(move |issuer| {
                    let fetcher = KeyFetcher::discovered(issuer.to_owned(), outbound.clone());
                    fetcher.map(KeyFetcher::into_issuer).ok()
                })
            }
            Self::None => TokenVerification::upstream(),
        })
    }
}

/// EKS Auth, and how to prove oneself there.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its URL; AWS's own, by region, if `None`.
    pub endpoint: Option<String>,
    /// How the agent proves itself.
    pub agent_auth: AgentAuth,
    /// How it is reached.
    pub outbound: Outbound,
    /// Region and credentials; those of the environment if `None`.
    pub sdk_config: Option<SdkConfig>,
}

/// How the agent proves itself to EKS Auth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentAuth {
    /// AWS Signature Version 4.
    SigV4,
    /// The agent's own service account token.
    Token {
        /// Its file.
        file: PathBuf,
    },
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Tokens would cross a network in the clear.
    #[error("--endpoint: {0}")]
    Endpoint(OutboundError),
    /// Keys that anybody on the way could swap verify nothing.
    #[error("the issuer's keys: {0}")]
    Issuer(OutboundError),
    /// Two issuers are the same.
    #[error("--issuer {0:?} is given twice")]
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
        "--cluster-name {0} has a dot, which no cluster of EKS has: give the URL of pod-identity-auth with --endpoint"
    )]
    DotWithoutEndpoint(ClusterName),
    /// A file that nothing reads.
    #[error("--agent-token-file belongs to --agent-auth token")]
    TokenFileWithoutToken,
    /// AWS takes no such tokens.
    #[error("--agent-auth token is for pod-identity-auth: give its URL with --endpoint")]
    TokenWithoutEndpoint,
    /// Nowhere to serve.
    #[error("--bind-hosts names no address")]
    NoAddress,
}

impl Config {
    /// Makes the configuration of an agent with the default limits, without keys and without admin endpoints.
    pub fn new(cluster: ClusterName, listen: Vec<SocketAddr>, eks_auth: Destination) -> Self {
        Self {
            cluster,
            listen,
            admin: Vec::new(),
            eks_auth,
            keys: TokenKeys::None,
            service: ServiceConfig::default(),
            limits: Limits::default(),
            clock: Clock::default(),
        }
    }

    /// Refuses what would not be safe.
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
            None if self.eks_auth.agent_auth != AgentAuth::SigV4 => Err(ConfigError::TokenWithoutEndpoint),
            None => Ok(()),
        }
    }
}
