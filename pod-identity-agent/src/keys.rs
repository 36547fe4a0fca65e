//! The keys of the cluster's token issuer, without flags.
//!
//! Sources in this order: the API server's key set, the issuer's public discovery document, and acceptance by the
//! upstream. The API server is called at its address in the pod's environment, so no DNS is needed.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use kube::Client;
use pod_identity_core::cluster::Cluster;
use pod_identity_core::service::{CredentialService, Issuer, TokenVerification};
use pod_identity_runtime::issuer_keys::KeyFetcher;
use pod_identity_runtime::kubernetes::ApiFailure;
use pod_identity_runtime::metrics::register_gauges;
use pod_identity_runtime::outbound::Outbound;
use prometheus_client::registry::Registry;
use serde::Deserialize;

/// Time at the start for the API server's answer. The agent serves without it, too.
const FIRST_DEADLINE: Duration = Duration::from_secs(3);
/// Maximum time of a later call.
const DEADLINE: Duration = Duration::from_secs(5);
/// Time between two calls while the API server has not named the issuer.
const RETRY: Duration = Duration::from_secs(10);
/// The RBAC rule of the calls. Kubernetes binds this ClusterRole to all service accounts.
const RULE: &str = "the ClusterRole system:service-account-issuer-discovery";

/// The source of the keys in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum KeySource {
    /// No keys: the upstream verifies tokens.
    Upstream,
    /// The flags of the agent.
    Flags,
    /// The issuer's public discovery document.
    Issuer,
    /// The API server's key set.
    ApiServer,
}

impl KeySource {
    const ALL: [Self; 4] = [Self::Upstream, Self::Flags, Self::Issuer, Self::ApiServer];

    /// Returns the name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Flags => "flags",
            Self::Issuer => "issuer",
            Self::ApiServer => "api_server",
        }
    }
}

/// The verification in use, and the source of its keys. Clones share them.
#[derive(Debug, Clone)]
pub struct KeysInUse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    verification: RwLock<TokenVerification>,
    source: AtomicU8,
}

impl KeysInUse {
    /// Makes the state. `source` is the source of the keys as soon as the verification has any.
    pub fn new(verification: TokenVerification, source: KeySource) -> Self {
        let source = AtomicU8::new(source as u8);
        Self(Arc::new(Inner { verification: RwLock::new(verification), source }))
    }

    /// Registers `pod_identity_issuer_keys_source`.
    pub fn register(&self, registry: &mut Registry) {
        let keys = self.clone();
        register_gauges(
            registry,
            "pod_identity_issuer_keys_source",
            "1 for the source of the keys that verify tokens: api_server, issuer, flags, or upstream without keys",
            move || {
                let source = keys.source();
                let value = |one: KeySource| ([("source", one.as_str())], i64::from(one == source));
                KeySource::ALL.into_iter().map(value).collect()
            },
        );
    }

    /// Returns the verification.
    pub fn verification(&self) -> TokenVerification {
        self.0.verification.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the source of the keys in use.
    pub fn source(&self) -> KeySource {
        if !self.verification().has_keys() {
            return KeySource::Upstream;
        }
        let source = self.0.source.load(Ordering::Relaxed);
        KeySource::ALL.into_iter().find(|one| *one as u8 == source).unwrap_or(KeySource::Upstream)
    }

    fn replace(&self, verification: TokenVerification) {
        *self.0.verification.write().unwrap_or_else(PoisonError::into_inner) = verification;
    }

    fn fetched_from(&self, source: KeySource) {
        if self.0.source.swap(source as u8, Ordering::Relaxed) != source as u8 {
            tracing::info!(source = source.as_str(), "issuer keys fetched from another source");
        }
    }
}

/// The issuer of the cluster of the API server.
#[derive(Clone)]
pub struct ClusterIssuer {
    client: Client,
    /// Connections to the public issuer.
    outbound: Outbound,
    keys: KeysInUse,
}

impl fmt::Debug for ClusterIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterIssuer").field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
}

impl ClusterIssuer {
    /// Makes the issuer. Its keys are those of `keys` once the API server has named it.
    pub fn new(client: Client, outbound: Outbound, keys: KeysInUse) -> Self {
        Self { client, outbound, keys }
    }

    /// Asks the API server for the issuer's name, and uses its keys. It waits for 3 s at most. Returns whether the API
    /// server answered.
    pub async fn begin(&self) -> bool {
        match self.discover(FIRST_DEADLINE).await {
            Ok(issuer) => {
                self.keys.replace(TokenVerification::issuer_or_upstream(self.issuer(issuer)));
                true
            }
            Err(failure) => {
                tracing::warn!(
                    "the API server did not name the token issuer: {failure}. Until it does, the keys are those of the \
                     issuer of the first accepted token"
                );
                false
            }
        }
    }

    /// Repeats the call until the API server answers, and then replaces the verification of the service.
    pub async fn follow(self, service: CredentialService, cluster: Cluster) {
        loop {
            tokio::time::sleep(RETRY).await;
            let Ok(issuer) = self.discover(DEADLINE).await else { continue };
            let verification = TokenVerification::issuer_or_upstream(self.issuer(issuer.clone()));
            self.keys.replace(verification.clone());
            match service.set_clusters([(cluster, verification)]) {
                Ok(()) => tracing::info!(issuer, "the API server named the token issuer"),
                // The cluster is the one of the start, so this does not happen.
                Err(error) => tracing::error!(%error, "verification not replaced"),
            }
            return;
        }
    }

    fn issuer(&self, issuer: String) -> Issuer {
        let (url, keys) = (issuer.clone(), self.clone());
        Issuer::fetched(url, move || {
            let (keys, issuer) = (keys.clone(), issuer.clone());
            async move { keys.fetch(&issuer).await.map_err(Into::into) }
        })
    }

    /// Fetches the keys from the API server, or else from the public issuer.
    async fn fetch(&self, issuer: &str) -> Result<Vec<u8>, String> {
        let failure = match self.get("/openid/v1/jwks", DEADLINE).await {
            Ok(keys) => {
                self.keys.fetched_from(KeySource::ApiServer);
                return Ok(keys.into_bytes());
            }
            Err(failure) => failure,
        };
        let public = match KeyFetcher::discovered(issuer.to_owned(), self.outbound.clone()) {
            Ok(fetcher) => fetcher.fetch().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match public {
            Ok(keys) => {
                self.keys.fetched_from(KeySource::Issuer);
                Ok(keys.to_vec())
            }
            Err(error) => Err(format!("{failure}; the public issuer: {error}")),
        }
    }

    async fn discover(&self, limit: Duration) -> Result<String, ApiFailure> {
        let document = self.get("/.well-known/openid-configuration", limit).await?;
        let document: Result<DiscoveryDocument, _> = serde_json::from_str(&document);
        document
            .map(|document| document.issuer)
            .map_err(|error| ApiFailure::Answer(format!("discovery document: {error}")))
    }

    async fn get(&self, path: &str, limit: Duration) -> Result<String, ApiFailure> {
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| ApiFailure::Answer(error.to_string()))?;
        match tokio::time::timeout(limit, self.client.request_text(request)).await {
            Ok(answer) => answer.map_err(|error| ApiFailure::new(&error, RULE)),
            Err(_) => Err(ApiFailure::Deadline(limit)),
        }
    }
}
