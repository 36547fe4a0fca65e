//! The HTTP server: `POST /mutate` for API servers, and `GET /healthz` as AWS's webhook has it.
//!
//! The path contains the settings of the pod's namespace. The API server evaluates the namespace's labels to choose an entry of
//! the webhook configuration, so the settings are current, and the webhook needs no right to read namespaces.

mod bodies; // request bodies within bounds of size, time and memory
mod metrics; // metrics of requests
mod request_error; // requests that are not reviews
mod route; // paths

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_runtime::clock;
use pod_identity_runtime::http::{json_bytes, plain};
use pod_identity_runtime::listener::{Handler, Peer};
use pod_identity_runtime::logs::LogLimiter;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use self::bodies::Bodies;
use self::metrics::RequestMetrics;
use self::request_error::RequestError;
use self::route::Route;
use crate::admission::Admission;

/// Handles the requests of the listener.
#[derive(Debug)]
pub struct Server {
    admission: Admission,
    bodies: Bodies,
    metrics: RequestMetrics,
    /// Whether only peers with a verified client certificate may send reviews.
    requires_client_certificate: bool,
    shutdown: Shutdown,
}

impl Server {
    /// Returns the limit of log lines of each peer.
    pub(crate) fn log_limiter(&self) -> &LogLimiter {
        self.admission.log_limiter()
    }

    /// Makes a server. After the request for a shutdown each response closes its connection, so that the API server sends its
    /// next review to another replica.
    pub fn new(
        admission: Admission,
        requires_client_certificate: bool,
        shutdown: Shutdown,
        registry: &mut Registry,
    ) -> Self {
        let metrics = RequestMetrics::register(registry);
        Self { admission, bodies: Bodies::default(), metrics, requires_client_certificate, shutdown }
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Result<Response<Full<Bytes>>, RequestError> {
        let (parts, body) = request.into_parts();
        let (_, route) = Route::of(parts.uri.path()).ok_or(RequestError::NotFound)?;
        match (route, &parts.method) {
            (Route::Mutate(_), _) if self.requires_client_certificate && !peer.has_client_certificate => {
                Err(RequestError::NoClientCertificate)
            }
            (Route::Mutate(namespace), &Method::POST) => {
                if !is_json(&parts.headers) {
                    return Err(RequestError::MediaType);
                }
                // A client with a verified certificate is an API server: it has no limits of a peer.
                let limited = (!peer.has_client_certificate).then(|| peer.ip());
                let body = self.bodies.read(body, limited).await?;
                let response =
                    self.admission.respond(&body.bytes, namespace, limited, clock::monotonic()).await?;
                Ok(json_bytes(StatusCode::OK, response.into()))
            }
            (Route::Mutate(_), _) => Err(RequestError::Method { allowed: "POST" }),
            (Route::Health, &Method::GET | &Method::HEAD) => Ok(plain(StatusCode::OK, "ok\n")),
            (Route::Health, _) => Err(RequestError::Method { allowed: "GET, HEAD" }),
        }
    }
}

impl Handler for Server {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let in_progress = self.metrics.begin(request.method(), request.uri().path(), clock::monotonic());
        let (mut response, code) = match self.respond(request, peer).await {
            Ok(response) => (response, "ok"),
            Err(error) => {
                let (address, code) = (peer.address, error.code());
                self.admission.log_limiter().log(peer.ip(), code, |suppressed| {
                    tracing::warn!(peer = %address, code, suppressed, "request refused: {error}");
                });
                (error.response(), error.code())
            }
        };
        if self.shutdown.is_asked() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        in_progress.finish(response.status().as_u16(), code);
        response
    }
}

/// Returns whether the media type is JSON, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_json_with_any_parameters_only() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;", true),
            ("application/json-patch+json", false),
            ("text/json", false),
            ("application/yaml", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_json(&headers), expected, "{value:?}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
