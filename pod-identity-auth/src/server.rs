//! `POST /clusters/{clusterName}/assume-role-for-pod-identity`, the operation of AWS's EKS Auth.

mod authentication;
mod respond;

pub use authentication::{AgentAuthenticator, AgentKeysError};

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::ClusterName;
use pod_identity_core::service::{AuthorizedPod, CredentialService, Credentials, Origin};
use pod_identity_runtime::clock;
use pod_identity_runtime::http::{plain, read_body};
use pod_identity_runtime::listener::{Handler, Peer};
use pod_identity_runtime::logs;
use pod_identity_runtime::metrics::HttpMetrics;
use serde::Deserialize;
use zeroize::Zeroizing;

use self::authentication::check_node;
use self::respond::ErrorResponse;
use crate::audit::AuditRecord;
use crate::config::AuditFailure;
use crate::sessions::SessionMetrics;
use crate::store::AssociationStore;

/// Maximum size of a request body in bytes. A token of 12 KiB and members that AWS may add fit in.
const MAX_BODY: usize = 32 * 1024;

/// Maximum time to wait for an audit line to be written.
const AUDIT_LIMIT: Duration = Duration::from_secs(1);

/// The service behind the listener. Clones are the same service.
#[derive(Debug, Clone)]
pub struct Server {
    /// Verifies pods and issues their credentials.
    pub service: CredentialService,
    /// The association file.
    pub store: Arc<AssociationStore>,
    /// Authenticates agents. With `None`, every peer of the listener may call.
    pub agents: Option<Arc<AgentAuthenticator>>,
    /// Counts responses.
    pub metrics: HttpMetrics,
    /// Counts issued sessions.
    pub sessions: SessionMetrics,
    /// The result of an exchange whose audit line cannot be written.
    pub audit_failure: AuditFailure,
}

/// The request body. The other members of EKS Auth (`eksNodeName`, `instanceId`, `zone`) are ignored, because they are
/// unproven.
#[derive(Deserialize)]
struct AssumeRoleRequest {
    token: Zeroizing<String>,
}

impl Handler for Server {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        // A separate task: every issuance gets its audit line, also if the caller disconnects.
        let server = self.clone();
        let responded = tokio::spawn(async move { server.respond(request).await });
        responded.await.unwrap_or_else(|error| {
            tracing::error!(%error, "request handler panicked");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
        })
    }
}

impl Server {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let started = clock::monotonic();
        let mut record =
            AuditRecord { request_id: uuid::Uuid::new_v4().to_string(), ..AuditRecord::default() };
        let (parts, body) = request.into_parts();
        let (response, code) = match self.exchange(&parts, body, &mut record).await {
            Ok(response) => (response, "ok"),
            Err(error) => {
                record.refused(error.code, &error.message);
                (respond::error(&error, &record.request_id), error.code.as_str())
            }
        };
        self.metrics.count(response.status().as_u16(), code, started.elapsed());
        response
    }

    async fn exchange(
        &self,
        parts: &Parts,
        body: Incoming,
        record: &mut AuditRecord,
    ) -> Result<Response<Full<Bytes>>, ErrorResponse> {
        let cluster = operation_cluster(parts)?;
        record.cluster = Some(cluster.clone());
        let body = read_body(body, MAX_BODY).await?;
        let pod = loop {
            let generation = self.store.generation();
            let mut attempt = record.clone();
            let authorized = self.authorize(parts, &body, &cluster, &mut attempt).await;
            // Keys and associations must be those of the same version of the file: a cluster name may belong to
            // another cluster now.
            if self.store.is_current(generation) {
                *record = attempt;
                break authorized?;
            }
            tokio::task::yield_now().await;
        };
        let credentials = self.issue(&pod, record).await?;
        let response = respond::success(&pod, &credentials, &record.request_id)?;
        match self.audit_failure {
            AuditFailure::Drop => record.issued(&credentials),
            AuditFailure::Refuse => {
                let line = logs::acknowledged(|| record.issued(&credentials));
                if !line.is_written(AUDIT_LIMIT).await {
                    let message = "the audit line of this exchange was not written to standard error";
                    return Err(ErrorResponse::new(ErrorCode::AuditUnwritten, message));
                }
            }
        }
        Ok(response)
    }

    /// Checks a request in this order: the agent, the pod's token, the agent's right to that pod, the association.
    async fn authorize(
        &self,
        parts: &Parts,
        body: &[u8],
        cluster: &ClusterName,
        record: &mut AuditRecord,
    ) -> Result<AuthorizedPod, ErrorResponse> {
        if let Some(agents) = &self.agents {
            record.caller = Some(agents.authenticate(parts, body, &self.service, cluster).await?);
        }
        let request: AssumeRoleRequest = pod_identity_core::json::from_slice(body).map_err(|error| {
            let message = format!("the request body is not an object with a token: {error}");
            ErrorResponse::new(ErrorCode::RequestMalformed, message)
        })?;
        let pod = self.service.verify(cluster, &request.token).await?;
        let token = record.token.insert(pod.token().clone());
        if let Some(caller) = &record.caller {
            check_node(caller, token)?;
        }
        let pod = self.service.authorize(pod).await?;
        let association = pod.association();
        record.association = Some(association.id.to_string());
        record.role = Some(association.target_role.as_ref().unwrap_or(&association.role).to_string());
        Ok(pod)
    }

    async fn issue(&self, pod: &AuthorizedPod, record: &AuditRecord) -> Result<Credentials, ErrorResponse> {
        let _waiting = self.sessions.waiting();
        let credentials = self.service.issue(pod).await?;
        if credentials.origin() == Origin::Stale {
            let pod = record.token.as_ref().map(|token| token.identity.pod.name.as_str());
            let association = record.association.as_deref();
            tracing::warn!(association, pod, "stale session served because STS failed or timed out");
        }
        self.sessions.count(credentials.origin());
        Ok(credentials)
    }
}

/// Returns the cluster in the path of the only operation.
fn operation_cluster(parts: &Parts) -> Result<ClusterName, ErrorResponse> {
    let name = parts
        .uri
        .path()
        .strip_prefix("/clusters/")
        .and_then(|rest| rest.strip_suffix("/assume-role-for-pod-identity"))
        .filter(|name| !name.contains('/') && parts.method == Method::POST);
    let Some(name) = name else {
        return Err(ErrorResponse::new(
            ErrorCode::NotFound,
            "not found: the only operation is POST /clusters/{clusterName}/assume-role-for-pod-identity",
        ));
    };
    let name = percent_decode_str(name).decode_utf8_lossy();
    name.parse()
        .map_err(|error| ErrorResponse::new(ErrorCode::RequestMalformed, format!("clusterName: {error}")))
}
