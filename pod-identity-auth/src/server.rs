//! `POST /clusters/{clusterName}/assume-role-for-pod-identity`, as AWS's EKS Auth answers it.

mod assume_role;
mod caller;
mod respond;

pub use caller::{AgentAuth, Caller, KeysError};

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
use pod_identity_runtime::clock;
use pod_identity_runtime::http::{plain, read_body};
use pod_identity_runtime::listener::{Handler, Peer};
use pod_identity_runtime::logs;
use pod_identity_runtime::metrics::HttpMetrics;

use self::respond::Refusal;
use crate::audit::AuditRecord;
use crate::config::AuditFailure;
use crate::sessions::Sessions;
use crate::store::Store;

/// The most that a request's body may have, in bytes: a token of 12 KiB, and room for what AWS may add.
const MAX_BODY: usize = 32 * 1024;

/// Maximum time to wait for an audit line to be written.
const AUDIT_LIMIT: Duration = Duration::from_secs(1);

/// The service behind the listener. A clone is the same service.
#[derive(Debug, Clone)]
pub struct Server {
    /// Clusters, keys, associations.
    pub store: Arc<Store>,
    /// What STS gives for pods.
    pub sessions: Arc<Sessions>,
    /// How agents prove themselves; `None` lets everybody who reaches the listener call.
    pub agent_auth: Option<Arc<AgentAuth>>,
    /// Counts and times of answers.
    pub metrics: HttpMetrics,
    /// What happens to an exchange whose audit line cannot be written.
    pub audit_failure: AuditFailure,
}

impl Handler for Server {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        // A task of its own: a caller that hangs up must not leave an issuance without its audit line.
        let server = self.clone();
        let answered = tokio::spawn(async move { server.respond(request).await });
        answered.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request was not answered");
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
        let result = self.answer(&parts, body, &mut record).await;
        let (response, code) = match result {
            Ok(answer) => (respond::success(&answer, &record.request_id), "ok"),
            Err(refusal) => {
                record.refused(refusal.code, &refusal.message);
                (respond::refusal(&refusal, &record.request_id), refusal.code.as_str())
            }
        };
        self.metrics.count(response.status().as_u16(), code, started.elapsed());
        response
    }

    async fn answer(
        &self,
        parts: &Parts,
        body: Incoming,
        record: &mut AuditRecord,
    ) -> Result<respond::Answer, Refusal> {
        let cluster = operation_cluster(parts)?;
        record.cluster = Some(cluster.clone());
        let body = read_body(body, MAX_BODY).await?;
        let now = clock::now();
        let snapshot = self.store.snapshot();
        record.caller = match &self.agent_auth {
            None => None,
            Some(agent_auth) => Some(agent_auth.authenticate(parts, &body, &snapshot, &cluster, now).await?),
        };
        let key = self.judge(&snapshot, &cluster, &body, now, record).await?;
        // A snapshot of many associations is not kept alive by calls that take their time.
        drop(snapshot);
        let (cluster, association) = (key.cluster.clone(), key.association.clone());
        let given = self.sessions.get(key).await.map_err(|error| Refusal::from(&*error))?;
        let answer = respond::Answer::new(&cluster, &association, &given.session)?;
        match self.audit_failure {
            AuditFailure::Drop => record.issued(&given),
            AuditFailure::Refuse => {
                let line = logs::acknowledged(|| record.issued(&given));
                if !line.is_written(AUDIT_LIMIT).await {
                    let message = "the audit line of this exchange was not written to standard error";
                    return Err(Refusal::new(ErrorCode::AuditUnwritten, message));
                }
            }
        }
        Ok(answer)
    }
}

/// The cluster in the path of the one operation there is.
fn operation_cluster(parts: &Parts) -> Result<ClusterName, Refusal> {
    let name = parts
        .uri
        .path()
        .strip_prefix("/clusters/")
        .and_then(|rest| rest.strip_suffix("/assume-role-for-pod-identity"))
        .filter(|name| !name.contains('/') && parts.method == Method::POST);
    let Some(name) = name else {
        return Err(Refusal::new(
            ErrorCode::NotFound,
            "the one operation here is POST /clusters/{clusterName}/assume-role-for-pod-identity",
        ));
    };
    let name = percent_decode_str(name).decode_utf8_lossy();
    name.parse().map_err(|error| Refusal::new(ErrorCode::RequestMalformed, format!("clusterName: {error}")))
}
