//! Authentication of agents: by a configured key, or by the agent's own service account token.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::{ClusterName, Namespace, ServiceAccount};
use pod_identity_core::service::CredentialService;
use pod_identity_core::token::{AGENT_AUDIENCE, VerifiedToken};
use pod_identity_runtime::clock;
use pod_identity_runtime::files::{self, FileMetrics, ReadError, Watched};
use pod_identity_runtime::shutdown::Shutdown;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::respond::ErrorResponse;
use crate::caller::AuthenticatedCaller;
use crate::config::AgentAuthConfig;
use crate::sigv4::{self, Secret, SigV4Error};

/// Maximum size of the file of agents' keys, in bytes.
const MAX_KEYS_FILE: usize = 1024 * 1024;

/// The service name that requests to EKS Auth are signed for (its API model, `signingName`).
const SIGNING_NAME: &str = "eks-auth";

/// Refuses a pod of another node than the agent's, if the agent proves its node. Names and UIDs must be equal.
pub(super) fn check_node(caller: &AuthenticatedCaller, token: &VerifiedToken) -> Result<(), ErrorResponse> {
    let AuthenticatedCaller::Agent { node } = caller else { return Ok(()) };
    match &token.node {
        Some(of_pod) if of_pod.name == node.name && of_pod.uid.is_some() && of_pod.uid == node.uid => Ok(()),
        Some(of_pod) => Err(ErrorResponse::new(
            ErrorCode::NodeMismatch,
            format!("the pod's token belongs to node {}, the agent runs on {}", of_pod.name, node.name),
        )),
        None => Err(ErrorResponse::new(ErrorCode::NodeMismatch, "the pod's token names no node")),
    }
}

/// Authenticates agents.
#[derive(Debug)]
pub enum AgentAuthenticator {
    /// By a configured key.
    SigV4(Arc<AgentKeys>),
    /// By the agent's own service account token.
    Token {
        /// The allowed service accounts.
        service_accounts: Vec<(Namespace, ServiceAccount)>,
    },
}

impl AgentAuthenticator {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// [`AgentKeysError`] if the file of keys cannot be used.
    pub fn new(config: AgentAuthConfig, metrics: &FileMetrics) -> Result<Self, AgentKeysError> {
        match config {
            AgentAuthConfig::SigV4 { keys_file } => {
                Ok(Self::SigV4(Arc::new(AgentKeys::read(keys_file, metrics)?)))
            }
            AgentAuthConfig::Token { service_accounts } => Ok(Self::Token { service_accounts }),
        }
    }

    pub(super) async fn authenticate(
        &self,
        parts: &Parts,
        body: &[u8],
        service: &CredentialService,
        cluster: &ClusterName,
    ) -> Result<AuthenticatedCaller, ErrorResponse> {
        match self {
            Self::SigV4(keys) => Ok(keys.authenticate(parts, body, clock::now())?),
            Self::Token { service_accounts } => {
                authenticate_by_token(service_accounts, parts, service, cluster).await
            }
        }
    }
}

async fn authenticate_by_token(
    allowed: &[(Namespace, ServiceAccount)],
    parts: &Parts,
    service: &CredentialService,
    cluster: &ClusterName,
) -> Result<AuthenticatedCaller, ErrorResponse> {
    let refuse = |reason: &str| {
        ErrorResponse::new(ErrorCode::CallerRefused, format!("the agent is refused: {reason}"))
    };
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let token = match (headers.next(), headers.next()) {
        (Some(header), None) => header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")),
        _ => None,
    };
    let Some(token) = token else {
        return Err(refuse("it sends no bearer token: set --agent-auth token at the agent"));
    };
    let verified = service.verify_caller(cluster, token, AGENT_AUDIENCE).await;
    let verified = verified.map_err(|error| match error.code() {
        // This code is retryable; `caller_refused` is not.
        code @ ErrorCode::TokenKeyUnknown => {
            ErrorResponse::new(code, format!("the agent's token: {}", error.message()))
        }
        _ => refuse(error.message()),
    })?;
    let identity = &verified.identity;
    if !allowed.iter().any(|(ns, sa)| *ns == identity.namespace && *sa == identity.service_account) {
        return Err(refuse(&format!(
            "service account {}/{} is not in --agent-service-account",
            identity.namespace, identity.service_account
        )));
    }
    let node = verified
        .node
        .ok_or_else(|| ErrorResponse::new(ErrorCode::NodeMismatch, "the agent's token names no node"))?;
    Ok(AuthenticatedCaller::Agent { node })
}

/// The keys of agents, from a file that is read again after a change.
#[derive(Debug)]
pub struct AgentKeys {
    path: PathBuf,
    watched: Watched,
    keys: ArcSwap<HashMap<String, Secret>>,
}

/// Why the file of agents' keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .path.display())]
pub struct AgentKeysError {
    path: PathBuf,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyEntry {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
}

impl AgentKeys {
    fn read(path: PathBuf, metrics: &FileMetrics) -> Result<Self, AgentKeysError> {
        let watched = Watched::look(vec![path.clone()]).counted(metrics, "agent_keys");
        let keys = Self { path, watched, keys: ArcSwap::default() };
        keys.replace(files::read_text(&keys.path, MAX_KEYS_FILE))?;
        Ok(keys)
    }

    fn replace(&self, text: Result<Zeroizing<String>, ReadError>) -> Result<(), AgentKeysError> {
        let invalid = |reason: String| AgentKeysError { path: self.path.clone(), reason };
        let text = text.map_err(|error| invalid(error.to_string()))?;
        // No error contains text of the file, because it has secrets.
        let entries: Vec<KeyEntry> = serde_saphyr::from_str(&text).map_err(|_| {
            invalid("not a list of accessKeyId and secretAccessKey in YAML or JSON".to_owned())
        })?;
        if entries.is_empty() {
            return Err(invalid("the list has no key".to_owned()));
        }
        let mut keys = HashMap::new();
        for entry in entries {
            let secret = Secret::from(entry.secret_access_key.as_str().to_owned());
            if entry.access_key_id.is_empty() || entry.secret_access_key.len() < 16 {
                return Err(invalid(
                    "an accessKeyId is empty, or a secretAccessKey has fewer than 16 characters".into(),
                ));
            }
            if keys.insert(entry.access_key_id.clone(), secret).is_some() {
                return Err(invalid(format!("the access key id {} occurs twice", entry.access_key_id)));
            }
        }
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Follows the file until the shutdown. While the file is broken, the old keys stay in use, and an error is
    /// logged every 30 s.
    pub async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let watched = self.watched.clone();
        watched
            .follow(shutdown, || async {
                match self.replace(files::read_in_background(&self.path, MAX_KEYS_FILE).await) {
                    Ok(()) => {
                        tracing::info!(file = %self.path.display(), "agent keys replaced");
                        true
                    }
                    Err(error) => {
                        tracing::error!(%error, "agent keys not replaced; the old ones stay in use");
                        false
                    }
                }
            })
            .await;
    }

    fn authenticate(
        &self,
        parts: &Parts,
        body: &[u8],
        now: SystemTime,
    ) -> Result<AuthenticatedCaller, SigV4Error> {
        let keys = self.keys.load();
        // Agents sign for their own region. It does not matter here.
        let signer = sigv4::verify(parts, body, SIGNING_NAME, None, |id| keys.get(id).cloned(), now)?;
        Ok(AuthenticatedCaller::Key { access_key_id: signer.access_key_id })
    }
}
