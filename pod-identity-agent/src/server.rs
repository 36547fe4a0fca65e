//! `GET /v1/credentials`, the operation of AWS's agent.

mod host;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_core::error::{Blame, ErrorCode};
use pod_identity_core::service::{CredentialError, CredentialService, Credentials};
use pod_identity_runtime::clock;
use pod_identity_runtime::http::json_bytes;
use pod_identity_runtime::listener::{Handler, Peer};
use pod_identity_runtime::logs::LogLimiter;
use pod_identity_runtime::metrics::HttpMetrics;

use crate::network::OffNode;
use crate::peer::LocalAddresses;
use crate::pods::Pods;

/// Path of the credentials.
pub const CREDENTIALS_PATH: &str = "/v1/credentials";

/// The handler of pod requests.
#[derive(Debug)]
pub struct Server {
    /// Issues the credentials.
    pub service: CredentialService,
    /// The addresses of this machine. They are one peer.
    pub local: LocalAddresses,
    /// The check of peers outside the node.
    pub off_node: OffNode,
    /// The check of pods.
    pub pods: Pods,
    /// The configured addresses. A `Host` header must name one of them.
    pub addresses: Vec<IpAddr>,
    /// Counts and times of responses.
    pub metrics: HttpMetrics,
    /// Limits the log lines about refused requests.
    pub log_limiter: LogLimiter,
}

impl Handler for Server {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let started = clock::monotonic();
        let (response, code) = match self.credentials(&request, peer.address).await {
            // The cached JSON itself is sent, without a copy.
            Ok(credentials) => (json_bytes(StatusCode::OK, Bytes::from_owner(credentials)), "ok"),
            Err(error) => {
                self.pods.refused(peer.ip(), error.code());
                let code = error.code().as_str();
                self.log_limiter.log(peer.ip(), code, |suppressed| log(&error, peer, suppressed));
                (response(&error), code)
            }
        };
        self.metrics.count(response.status().as_u16(), code, started.elapsed());
        response
    }
}

impl Server {
    async fn credentials(
        &self,
        request: &Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Credentials, CredentialError> {
        self.off_node.check(peer)?;
        host::check(request, &self.addresses)?;
        if request.uri().path() != CREDENTIALS_PATH || request.method() != Method::GET {
            let message = format!("method or path is wrong: the agent serves only GET {CREDENTIALS_PATH}");
            return Err(CredentialError::new(ErrorCode::NotFound, message));
        }
        let token = token::from_headers(request.headers())?;
        let request_peer = || self.local.request_peer(peer.ip());
        let credentials = self.service.credentials(token, request_peer()).await?;
        self.pods.served(credentials.identity(), peer.ip(), || request_peer().into())?;
        Ok(credentials)
    }
}

/// Logs a refused request: as an error if the upstream issued credentials of another pod, as a warning if an operator
/// can fix it, and else at debug level.
fn log(error: &CredentialError, peer: Peer, suppressed: u64) {
    let (peer, code, message) = (peer.address, error.code(), error.to_string());
    match code.blame() {
        _ if code == ErrorCode::SubjectMismatch => {
            tracing::error!(%peer, code = code.as_str(), message, suppressed, "request refused");
        }
        Blame::Pod => tracing::debug!(%peer, code = code.as_str(), message, suppressed, "request refused"),
        _ => tracing::warn!(%peer, code = code.as_str(), message, suppressed, "request refused"),
    }
}

fn response(error: &CredentialError) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_bytes(status, error.body().into());
    if let Some(pause) = error.retry_after().as_ref().map(Duration::as_secs) {
        response.headers_mut().insert(RETRY_AFTER, pause.into());
    }
    response
}
