//! Removal of the startup taint from the agent's own node. Until then the scheduler places no pods on the node.

use std::fmt;
use std::time::Duration;

use http::{Method, Request};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::kubernetes::{self, ApiFailure, ApiServer, Client, ClientError};
use pod_identity_runtime::logs::Fault;
use pod_identity_runtime::{clock, shutdown::Shutdown};
use serde_json::{Value, json};

/// The RBAC rule that the calls need.
const RULE: &str = "get and patch of nodes";

/// The program's name in the API server's audit log.
const USER_AGENT: &str = concat!("pod-identity-agent/", env!("CARGO_PKG_VERSION"));

/// Time between two checks whether the agent is ready.
const READY_INTERVAL: Duration = Duration::from_millis(200);

/// Time between two attempts.
const RETRY: Duration = Duration::from_secs(5);

/// Maximum time of one call.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The startup taint of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupTaint {
    /// The taint's key.
    pub key: String,
    /// The name of this node.
    pub node: String,
    /// The address and credentials of the API server.
    pub api_server: ApiServer,
}

/// The task that removes the taint.
pub(crate) struct TaintRemoval {
    taint: StartupTaint,
    client: Client,
}

impl fmt::Debug for TaintRemoval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaintRemoval").field("taint", &self.taint).finish_non_exhaustive()
    }
}

impl TaintRemoval {
    /// Makes the client of the API server. It does not call it.
    ///
    /// # Errors
    /// [`ClientError`], which names the fix.
    pub(crate) async fn new(taint: StartupTaint) -> Result<Self, ClientError> {
        let client = kubernetes::client(&taint.api_server, USER_AGENT).await?;
        Ok(Self { taint, client })
    }

    /// Waits until the agent is ready, and removes the taint once. It tries again every few seconds after a failure.
    pub(crate) async fn run(self, readiness: Readiness, mut shutdown: Shutdown) {
        let removal = async {
            while !readiness.missing().is_empty() {
                tokio::time::sleep(READY_INTERVAL).await;
            }
            let mut fault = Fault::default();
            let (start, key, node) = (clock::monotonic(), &self.taint.key, &self.taint.node);
            loop {
                match self.remove().await {
                    Ok(true) => return tracing::info!(%key, %node, "startup taint removed"),
                    Ok(false) => return tracing::debug!(%key, %node, "the node has no startup taint"),
                    Err(error) => {
                        if fault.failed(start.elapsed()).is_some() {
                            tracing::warn!(%error, %key, %node, "startup taint not removed; the node gets no pods");
                        }
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        };
        tokio::select! {
            () = shutdown.asked() => {}
            () = removal => {}
        }
    }

    /// Removes the taint if the node has it. The write is a compare-and-swap: taints of other programs stay.
    async fn remove(&self) -> Result<bool, ApiFailure> {
        let path = format!("/api/v1/nodes/{}", self.taint.node);
        let node = self.call(Method::GET, &path, None).await?;
        let Some(remaining) = without(&node, &self.taint.key) else { return Ok(false) };
        let version = &node["metadata"]["resourceVersion"];
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": remaining}});
        self.call(Method::PATCH, &path, Some(&patch)).await?;
        Ok(true)
    }

    async fn call(&self, method: Method, path: &str, patch: Option<&Value>) -> Result<Value, ApiFailure> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/merge-patch+json");
        let body = patch.map(ToString::to_string).unwrap_or_default().into_bytes();
        let request = request.body(body).map_err(|error| ApiFailure::Answer(error.to_string()))?;
        match tokio::time::timeout(CALL_LIMIT, self.client.request::<Value>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ApiFailure::new(&error, RULE)),
            Err(_) => Err(ApiFailure::Deadline(CALL_LIMIT)),
        }
    }
}

/// Returns the other taints of a node, or `None` if it does not have this one.
fn without<'a>(node: &'a Value, key: &str) -> Option<Vec<&'a Value>> {
    let taints = node["spec"]["taints"].as_array()?;
    let remaining: Vec<_> = taints.iter().filter(|taint| taint["key"] != key).collect();
    (remaining.len() < taints.len()).then_some(remaining)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_only_the_taint_with_that_key() {
        let taint = |key: &str| json!({"key": key, "effect": "NoSchedule"});
        let node = |taints: Value| json!({"spec": {"taints": taints}});
        let (own, other) = (taint("podidentity.dev/agent-not-ready"), taint("example.com/gpu"));
        let removed =
            |node: &Value| without(node, "podidentity.dev/agent-not-ready").map(|taints| json!(taints));
        assert_eq!(removed(&node(json!([own, other]))), Some(json!([other])));
        assert_eq!(removed(&node(json!([own]))), Some(json!([])));
        assert_eq!(removed(&node(json!([other]))), None);
        assert_eq!(removed(&json!({"spec": {}})), None);
    }
}
