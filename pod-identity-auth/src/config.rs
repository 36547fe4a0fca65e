//! What the service is told, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use pod_identity_core::cache::SessionCacheConfig;
use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_runtime::listener::Limits;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::tls::CertificateFiles;

use crate::sessions::DEFAULT_CACHE;
use crate::store::ClusterEntry;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to serve EKS Auth.
    pub listen: SocketAddr,
    /// Where to serve health, readiness and metrics; nowhere if `None`.
    pub admin: Option<SocketAddr>,
    /// The file of clusters and associations.
    pub associations: PathBuf,
    /// A cluster beside those of the file.
    pub cluster: Option<ClusterEntry>,
    /// How agents prove themselves; `None` only on loopback.
    pub agent_auth: Option<AgentAuthConfig>,
    /// The certificate; `None` only on loopback.
    pub tls: Option<CertificateFiles>,
    /// How sessions are named.
    pub session_naming: SessionNaming,
    /// How many sessions are kept, and which of them are given out again.
    pub session_cache: SessionCacheConfig,
    /// What happens to an exchange whose audit line cannot be written.
    pub audit_failure: AuditFailure,
    /// The limits of connections and requests.
    pub limits: Limits,
    /// How issuers and STS are reached.
    pub outbound: Outbound,
}

/// How agents prove themselves.
#[derive(Debug, Clone)]
pub enum AgentAuthConfig {
    /// AWS Signature Version 4 with a configured key. The node is not proven.
    SigV4 {
        /// The file of keys.
        keys_file: PathBuf,
    },
    /// The agent's own service account token; its node must be the pod token's.
    Token {
        /// Who may call.
        service_accounts: Vec<(Namespace, ServiceAccount)>,
    },
}

/// What happens to an exchange whose audit line cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditFailure {
    /// The exchange succeeds, and a metric counts the line.
    #[default]
    Drop,
    /// The exchange is refused. Each exchange waits until its line is written.
    Refuse,
}

impl FromStr for AuditFailure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "drop" => Ok(Self::Drop),
            "refuse" => Ok(Self::Refuse),
            other => Err(format!("{other:?} is neither drop nor refuse")),
        }
    }
}

/// How sessions are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionNaming {
    /// `eks-<cluster>-<pod>-<random UUID>`, as EKS.
    #[default]
    Random,
    /// `eks-<cluster>-<pod>-<pod UID>`: the same at each renewal.
    Stable,
}

impl FromStr for SessionNaming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "random" => Ok(Self::Random),
            "stable" => Ok(Self::Stable),
            other => Err(format!("{other:?} is neither random nor stable")),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Tokens and credentials would cross a network in the clear.
    #[error("{0} is not a loopback address: give --tls-cert and --tls-key, or listen on 127.0.0.1")]
    ExposedWithoutTls(SocketAddr),
    /// Anybody who reaches the address could exchange tokens.
    #[error("{0} is not a loopback address: give --agent-auth (sigv4 or token), or listen on 127.0.0.1")]
    ExposedWithoutAgentAuth(SocketAddr),
    /// Signatures need keys.
    #[error("--agent-auth sigv4 needs --agent-keys-file")]
    SigV4WithoutKeys,
    /// One way at a time.
    #[error("--agent-keys-file belongs to --agent-auth sigv4, not to token")]
    KeysWithToken,
    /// A list that nothing is compared with.
    #[error("--agent-service-account belongs to --agent-auth token")]
    AccountsWithoutToken,
    /// Not `namespace/name`.
    #[error("--agent-service-account {0:?} is not NAMESPACE/NAME")]
    ServiceAccount(String),
}

impl Config {
    /// A service on this address with this association file, and with the defaults of the command line: without
    /// admin endpoints, TLS and agent authentication.
    pub fn new(listen: SocketAddr, associations: PathBuf) -> Self {
        Self {
            listen,
            admin: None,
            associations,
            cluster: None,
            agent_auth: None,
            tls: None,
            session_naming: SessionNaming::default(),
            session_cache: DEFAULT_CACHE,
            audit_failure: AuditFailure::default(),
            limits: Limits::default(),
            outbound: Outbound::default(),
        }
    }

    /// Refuses what would not be safe.
    ///
    /// # Errors
    /// [`ConfigError`] with the missing part.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        if self.tls.is_none() {
            return Err(ConfigError::ExposedWithoutTls(self.listen));
        }
        if self.agent_auth.is_none() {
            return Err(ConfigError::ExposedWithoutAgentAuth(self.listen));
        }
        Ok(())
    }
}

impl AgentAuthConfig {
    /// Token authentication for these service accounts, each as `namespace/name`.
    ///
    /// # Errors
    /// [`ConfigError::ServiceAccount`] for the first that is not so.
    pub fn token<'a>(accounts: impl Iterator<Item = &'a str>) -> Result<Self, ConfigError> {
        let parse = |text: &str| {
            let (namespace, name) = text.split_once('/')?;
            Some((namespace.parse().ok()?, name.parse().ok()?))
        };
        let service_accounts = accounts
            .map(|text| parse(text).ok_or_else(|| ConfigError::ServiceAccount(text.to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(Self::Token { service_accounts })
    }
}
