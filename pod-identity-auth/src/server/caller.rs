//! Who calls: an agent, proven by a configured key or by its own service account token.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::{ClusterName, Namespace, Node, ServiceAccount};
use pod_identity_core::token::{AGENT_AUDIENCE, BearerToken, VerifiedToken};
use pod_identity_runtime::files::{self, FileMetrics, ReadError, Watched};
use pod_identity_runtime::shutdown::Shutdown;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::respond::Refusal;
use crate::config::AgentAuthConfig;
use crate::sigv4::{self, Secret, SigV4Error};
use crate::store::Snapshot;

/// The largest file of agents' keys, in bytes.
const MAX_KEYS_FILE: usize = 1024 * 1024;

/// The name that requests to EKS Auth are signed for (its API model, `signingName`).
const SIGNING_NAME: &str = "eks-auth";

/// An agent that proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// It holds a configured key; which node it runs on is not proven.
    Key {
        /// The key's id.
        access_key_id: String,
    },
    /// It holds a service account token, which names its node.
    Agent {
        /// The agent's node.
        node: Node,
    },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { access_key_id } => write!(f, "key {access_key_id}"),
            Self::Agent { node } => write!(f, "agent on {}", node.name),
        }
    }
}

impl Caller {
    /// Whether the caller proved which node it runs on.
    pub fn proves_node(&self) -> bool {
        matches!(self, Self::Agent { .. })
    }

    /// An agent that proves its node may ask for that node's pods only: same name, same UID.
    pub(super) fn check_node(&self, token: &VerifiedToken) -> Result<(), Refusal> {
        let Self::Agent { node } = self else { return Ok(()) };
        match &token.node {
            Some(of_pod) if of_pod.name == node.name && of_pod.uid.is_some() && of_pod.uid == node.uid => {
                Ok(())
            }
            Some(of_pod) => Err(Refusal::new(
                ErrorCode::NodeMismatch,
                format!("the pod's token belongs to node {}, the agent runs on {}", of_pod.name, node.name),
            )),
            None => Err(Refusal::new(ErrorCode::NodeMismatch, "the pod's token names no node")),
        }
    }
}

/// How agents prove themselves.
#[derive(Debug)]
pub enum AgentAuth {
    /// By a configured key.
    SigV4(AgentKeys),
    /// By their own service account token.
    Token {
        /// Who may call.
        service_accounts: Vec<(Namespace, ServiceAccount)>,
    },
}

impl AgentAuth {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// [`KeysError`] where the file of keys cannot be used.
    pub fn new(config: AgentAuthConfig, metrics: &FileMetrics) -> Result<Self, KeysError> {
        match config {
            AgentAuthConfig::SigV4 { keys_file } => Ok(Self::SigV4(AgentKeys::read(keys_file, metrics)?)),
            AgentAuthConfig::Token { service_accounts } => Ok(Self::Token { service_accounts }),
        }
    }

    pub(super) async fn authenticate(
        &self,
        parts: &Parts,
        body: &[u8],
        snapshot: &Snapshot,
        cluster: &ClusterName,
        now: SystemTime,
    ) -> Result<Caller, Refusal> {
        match self {
            Self::SigV4(keys) => Ok(keys.authenticate(parts, body, now)?),
            Self::Token { service_accounts } => {
                agent_token(service_accounts, parts, snapshot, cluster, now).await
            }
        }
    }
}

async fn agent_token(
    allowed: &[(Namespace, ServiceAccount)],
    parts: &Parts,
    snapshot: &Snapshot,
    cluster: &ClusterName,
    now: SystemTime,
) -> Result<Caller, Refusal> {
    let refuse =
        |why: String| Refusal::new(ErrorCode::CallerRefused, format!("the agent is not accepted: {why}"));
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let token = match (headers.next(), headers.next()) {
        (Some(header), None) => header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")),
        _ => None,
    };
    let Some(token) = token else {
        return Err(refuse("it sends no bearer token (is its --agent-auth token?)".to_owned()));
    };
    let token = BearerToken::parse(token).map_err(|error| refuse(error.to_string()))?;
    let keys = snapshot.issuers_of(cluster).ok_or_else(|| refuse(format!("no cluster named {cluster}")))?;
    let verified = keys.verify(&token, AGENT_AUDIENCE, now).await.map_err(|error| match error.code() {
        // Worth a retry; as a refusal of the caller it would not be.
        code @ ErrorCode::TokenKeyUnknown => Refusal::new(code, format!("the agent's token: {error}")),
        _ => refuse(error.to_string()),
    })?;
    let identity = &verified.identity;
    if !allowed.iter().any(|(ns, sa)| *ns == identity.namespace && *sa == identity.service_account) {
        return Err(refuse(format!(
            "service account {}/{} is not on the list (--agent-service-account)",
            identity.namespace, identity.service_account
        )));
    }
    let node = verified
        .node
        .ok_or_else(|| Refusal::new(ErrorCode::NodeMismatch, "the agent's token names no node"))?;
    Ok(Caller::Agent { node })
}

/// The keys that agents may sign with, from a file that is read again when it changes.
#[derive(Debug)]
pub struct AgentKeys {
    path: PathBuf,
    watched: Watched,
    keys: ArcSwap<HashMap<String, Secret>>,
}

/// Why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", .path.display())]
pub struct KeysError {
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
    fn read(path: PathBuf, metrics: &FileMetrics) -> Result<Self, KeysError> {
        let watched = Watched::look(vec![path.clone()]).counted(metrics, "agent_keys");
        let keys = Self { path, watched, keys: ArcSwap::default() };
        keys.replace(files::read_text(&keys.path, MAX_KEYS_FILE))?;
        Ok(keys)
    }

    fn replace(&self, text: Result<Zeroizing<String>, ReadError>) -> Result<(), KeysError> {
        let wrong = |reason: String| KeysError { path: self.path.clone(), reason };
        let text = text.map_err(|error| wrong(error.to_string()))?;
        // Neither the file's text nor a snippet of it may stand in an error: it holds secrets.
        let entries: Vec<KeyEntry> = serde_saphyr::from_str(&text).map_err(|_| {
            wrong("not a list of accessKeyId and secretAccessKey, in YAML or JSON".to_owned())
        })?;
        if entries.is_empty() {
            return Err(wrong("it holds no key".to_owned()));
        }
        let mut keys = HashMap::new();
        for entry in entries {
            let secret = Secret::from(entry.secret_access_key.as_str().to_owned());
            if entry.access_key_id.is_empty() || entry.secret_access_key.len() < 16 {
                return Err(wrong(
                    "an accessKeyId is empty, or a secretAccessKey shorter than 16 characters".into(),
                ));
            }
            if keys.insert(entry.access_key_id.clone(), secret).is_some() {
                return Err(wrong(format!("the access key id {} stands in it twice", entry.access_key_id)));
            }
        }
        self.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Follows the file until the shutdown. A broken file keeps the old keys and says why,
    /// every half a minute until it is mended.
    pub async fn follow(&self, shutdown: Shutdown) {
        let watched = self.watched.clone();
        watched
            .follow(shutdown, || async {
                match self.replace(files::read_in_background(&self.path, MAX_KEYS_FILE).await) {
                    Ok(()) => {
                        tracing::info!(file = %self.path.display(), "new agent keys in use");
                        true
                    }
                    Err(error) => {
                        tracing::error!(%error, "the agent keys were not replaced; the old ones stay in use");
                        false
                    }
                }
            })
            .await;
    }

    fn authenticate(&self, parts: &Parts, body: &[u8], now: SystemTime) -> Result<Caller, SigV4Error> {
        let keys = self.keys.load();
        // Agents sign for the region they run in; which one that is proves nothing here.
        let signer = sigv4::verify(parts, body, SIGNING_NAME, None, |id| keys.get(id).cloned(), now)?;
        Ok(Caller::Key { access_key_id: signer.access_key_id })
    }
}
