//! `GET /v1/credentials`, as AWS's agent answers it.

mod credentials;
mod host;
mod respond;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_core::error::ErrorCode;
use pod_identity_runtime::clock;
use pod_identity_runtime::listener::{Handler, Peer};
use pod_identity_runtime::logs::LogLimiter;
use pod_identity_runtime::metrics::HttpMetrics;

use self::respond::Refusal;
use crate::broker::Broker;

/// The path of credentials.
pub const CREDENTIALS_PATH: &str = "/v1/credentials";

/// The daemon behind the listeners.
#[derive(Debug)]
pub struct Server {
    /// Where credentials come from.
    pub broker: Arc<Broker>,
    /// The addresses that it serves on: the only ones that a `Host` header may name.
    pub addresses: Vec<IpAddr>,
    /// Counts and times of answers.
    pub metrics: HttpMetrics,
    /// Limits the lines about refused requests.
    pub log_limiter: LogLimiter,
}

impl Handler for Server {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let started = clock::monotonic();
        let (response, code) = match self.answer(&request, peer.ip()).await {
            Ok(response) => (response, "ok"),
            Err(refusal) => {
                self.log_limiter
                    .log(peer.ip(), refusal.code.as_str(), |suppressed| refusal.log(peer, suppressed));
                (refusal.response(), refusal.code.as_str())
            }
        };
        self.metrics.count(response.status().as_u16(), code, started.elapsed());
        response
    }
}

impl Server {
    async fn answer(
        &self,
        request: &Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        host::check(request, &self.addresses)?;
        if request.uri().path() != CREDENTIALS_PATH || request.method() != Method::GET {
            return Err(Refusal::new(
                ErrorCode::NotFound,
                format!("here is GET {CREDENTIALS_PATH}, not this method and path"),
            ));
        }
        credentials::answer(&self.broker, request.headers(), peer).await
    }
}
