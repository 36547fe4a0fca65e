//! The configuration, and its checks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_core::service::ServiceConfig;
use pod_identity_runtime::association_file::ClusterEntry;
use pod_identity_runtime::certificate::minimum_lifetime;
use pod_identity_runtime::kubernetes::ApiServer;
use pod_identity_runtime::listener::Limits;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::tls::CertificateFiles;

use crate::sts::CALL_DEADLINE;

/// Default number of cached sessions. At about 3 KiB each they take 60 MB.
pub(crate) const DEFAULT_CAPACITY: usize = 20_000;

/// Returns the default settings of the session cache and of calls to STS.
///
/// A session is fresh for the first fifth of its lifetime. An agent renews at 45 to 55 % of the lifetime that was left
/// when it got the session. It must get a newer session then, so a session must become stale before 45 %. The new
/// session must also have enough time left. A fresh session of an hour has at least 48 minutes left, and the agent
/// renews it when 21 to 26 minutes are left. A pod therefore always has more than 15 minutes, the limit below which
/// botocore fetches again. (The SDK for Java always fetches again below an hour.) With a fifth, this holds for every
/// lifetime of 45 minutes or more.
///
/// A stale session is served until a minute before its expiry. An agent serves it until 15 s before its expiry, and a
/// request to AWS needs the rest.
pub fn default_service() -> ServiceConfig {
    let mut config = ServiceConfig::default();
    config.capacity = DEFAULT_CAPACITY;
    config.margin = Duration::from_secs(60);
    config.fresh_percent = 20;
    // Agents request renewals. A session of a stopped agent needs none.
    config.renew = false;
    // botocore gives up after 2 s (`utils.py`, `ContainerMetadataFetcher`).
    config.stale_after = Duration::from_millis(1500);
    // The SDK repeats calls, and its error names the cause.
    config.attempts = 1;
    config.fetch_deadline = CALL_DEADLINE + Duration::from_millis(300);
    config.request_deadline = CALL_DEADLINE + Duration::from_millis(600);
    // Every token is verified before a call, so no pod needs to be slowed down. 512 calls of 100 ms are 5,000 sessions
    // per second. The limit bounds connections and memory while STS hangs.
    config.limits.calls = 512;
    config
}

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of EKS Auth.
    pub listen: SocketAddr,
    /// Address of health, readiness and metrics.
    pub admin: Option<SocketAddr>,
    /// The file of clusters and associations.
    pub associations: PathBuf,
    /// A cluster in addition to those of the file.
    pub cluster: Option<ClusterEntry>,
    /// How agents authenticate; `None` on loopback only.
    pub agent_auth: Option<AgentAuthConfig>,
    /// The certificate; `None` on loopback only.
    pub tls: Option<Certificate>,
    /// The names of sessions.
    pub session_naming: SessionNaming,
    /// Settings of the session cache and of calls to STS.
    pub service: ServiceConfig,
    /// What happens to an exchange whose audit line cannot be written.
    pub audit_failure: AuditFailure,
    /// The limits of connections and requests.
    pub limits: Limits,
    /// How to connect to issuers and STS.
    pub outbound: Outbound,
}

/// Source of the certificate.
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
    /// The address and credentials of the API server.
    pub api_server: ApiServer,
    /// The namespace of Secret, ConfigMap and Service.
    pub namespace: String,
    /// The Secret with the certificate and its key.
    pub secret: String,
    /// The Service that agents call.
    pub service: String,
    /// The ConfigMap that agents mount, with the authorities in `ca.crt`.
    pub config_map: String,
    /// Lifetime of a certificate. It is replaced after two thirds of it.
    pub lifetime: Duration,
    /// Time for agents to read a new authority.
    pub wait: Duration,
}

/// How agents authenticate.
#[derive(Debug, Clone)]
pub enum AgentAuthConfig {
    /// AWS Signature Version 4 with a configured key. The node is not proven.
    SigV4 {
        /// The file of keys.
        keys_file: PathBuf,
    },
    /// The agent's own service account token. Its node must be that of the pod's token.
    Token {
        /// The allowed service accounts.
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

/// The names of sessions.
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
    /// Tokens and credentials would cross a network unencrypted.
    #[error(
        "{0} is not a loopback address: give --tls-secret, or --tls-cert and --tls-key, or listen on 127.0.0.1"
    )]
    ExposedWithoutTls(SocketAddr),
    /// Every peer that reaches the address could exchange tokens.
    #[error("{0} is not a loopback address: give --agent-auth (sigv4 or token), or listen on 127.0.0.1")]
    ExposedWithoutAgentAuth(SocketAddr),
    /// A certificate that could expire before agents know the next one.
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
    /// The keys of agents are missing.
    #[error("--agent-auth sigv4 needs --agent-keys-file: give the file of the agents' keys")]
    SigV4WithoutKeys,
    /// Keys have no effect with token authentication.
    #[error("--agent-keys-file has no effect with --agent-auth token: remove one of them")]
    KeysWithToken,
    /// Service accounts have no effect without token authentication.
    #[error("--agent-service-account has no effect without --agent-auth token: add it, or remove the list")]
    ServiceAccountsWithoutToken,
    /// A service account is not `namespace/name`.
    #[error("--agent-service-account is {0:?}, want NAMESPACE/NAME")]
    ServiceAccount(String),
}

impl Config {
    /// Creates a configuration with this address, this association file and the defaults of the command line. It has no
    /// admin endpoints, no TLS and no agent authentication.
    pub fn new(listen: SocketAddr, associations: PathBuf) -> Self {
        Self {
            listen,
            admin: None,
            associations,
            cluster: None,
            agent_auth: None,
            tls: None,
            session_naming: SessionNaming::default(),
            service: default_service(),
            audit_failure: AuditFailure::default(),
            limits: Limits::default(),
            outbound: Outbound::default(),
        }
    }

    /// Refuses an unsafe configuration.
    ///
    /// # Errors
    /// [`ConfigError`] with the missing part.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(Certificate::SelfManaged(SelfManagedCertificate { lifetime, wait, .. })) = &self.tls
            && (wait.is_zero() || *lifetime < minimum_lifetime(*wait))
        {
            return Err(ConfigError::Lifetime { lifetime: lifetime.as_secs(), wait: wait.as_secs() });
        }
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
    /// Creates token authentication for these service accounts, each as `namespace/name`.
    ///
    /// # Errors
    /// [`ConfigError::ServiceAccount`] for the first service account in another form.
    pub fn token<'a>(service_accounts: impl Iterator<Item = &'a str>) -> Result<Self, ConfigError> {
        let parse = |text: &str| {
            let (namespace, name) = text.split_once('/')?;
            Some((namespace.parse().ok()?, name.parse().ok()?))
        };
        let service_accounts = service_accounts
            .map(|text| parse(text).ok_or_else(|| ConfigError::ServiceAccount(text.to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(Self::Token { service_accounts })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use pod_identity_core::cache::{Serving, SessionCache, SessionCacheConfig, SlotBegin};
    use pod_identity_core::credentials::SessionCredentials;
    use pod_identity_core::service::CredentialError;
    use pod_identity_core::time::Now;

    use super::*;

    fn at(seconds: f64) -> Now {
        let since = Duration::from_secs_f64(seconds);
        Now { wall: SystemTime::UNIX_EPOCH + since, monotonic: since }
    }

    #[test]
    fn renewing_agent_gets_newer_session_and_its_pod_has_15_minutes_left() {
        let ServiceConfig { capacity, margin, fresh_percent, .. } = default_service();
        let config = SessionCacheConfig { capacity, serving: Serving { margin, fresh_percent } };
        for life in [900.0, 2700.0, 3600.0, 43_200.0] {
            for percent in 0..=20_u8 {
                let cache: SessionCache<u8, SessionCredentials, CredentialError> = SessionCache::new(config);
                let SlotBegin::Lead(lead, _) = cache.begin(&1, at(0.0)) else { panic!() };
                lead.complete(at(0.0), Ok(SessionCredentials::new("", "", "", at(life).wall)));
                let got = life * f64::from(percent) / 100.0;
                assert!(matches!(cache.begin(&1, at(got)), SlotBegin::Hit(_)), "{life} s at {percent} %");
                // An agent renews at 45 to 55 % of the life that was left when it got the session.
                let (first, last) = (got + 0.45 * (life - got), got + 0.55 * (life - got));
                assert!(matches!(cache.begin(&1, at(first)), SlotBegin::Lead(..)), "{life} s at {percent} %");
                assert!(life < 2700.0 || life - last >= 900.0, "{life} s at {percent} %");
            }
        }
    }
}
