//! `POST /mutate`, as the API server asks, and `GET /healthz` beside it, as AWS's webhook has it.
//!
//! What a namespace's labels say comes with the path. The API server itself looks at them to choose between the
//! entries of the webhook's configuration; so this program needs no right to read namespaces, and its knowledge
//! of them is never old.

mod body; // within bounds of size, time and memory
mod metrics; // counts and times of answers
mod refusal; // requests that are no reviews

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

use self::body::Bodies;
use self::metrics::RequestMetrics;
use self::refusal::Refusal;
use crate::admission::Admission;
use pod_identity_core::inject::NamespaceSettings;

/// The program behind the listener.
#[derive(Debug)]
pub struct Server {
    admission: Admission,
    bodies: Bodies,
    metrics: RequestMetrics,
    /// Whether only peers with a verified client certificate may send reviews.
    requires_client_certificate: bool,
    shutdown: Shutdown,
}

/// What there is to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// A review of a pod in such a namespace.
    Mutate(NamespaceSettings),
    Health,
}

impl Route {
    /// All that there are, by their paths.
    const ALL: [(&str, Self); 5] = [
        ("/mutate", Self::mutate(false, false)),
        ("/mutate/inject", Self::mutate(true, false)),
        ("/mutate/require", Self::mutate(false, true)),
        ("/mutate/inject/require", Self::mutate(true, true)),
        ("/healthz", Self::Health),
    ];

    const fn mutate(inject: bool, require: bool) -> Self {
        Self::Mutate(NamespaceSettings { inject, require })
    }

    /// What a path asks for, and the path as we name it.
    fn of(path: &str) -> Option<(&'static str, Self)> {
        Self::ALL.into_iter().find(|(own, _)| *own == path)
    }
}

impl Server {
    /// The limit of the log lines that one peer can cause.
    pub(crate) fn log_limiter(&self) -> &LogLimiter {
        self.admission.log_limiter()
    }

    /// Answers reviews. From the moment at which `shutdown` is asked for, each answer also ends its connection,
    /// so that the API server finds another replica for its next question.
    pub fn new(
        admission: Admission,
        requires_client_certificate: bool,
        shutdown: Shutdown,
        registry: &mut Registry,
    ) -> Self {
        let metrics = RequestMetrics::register(registry);
        Self { admission, bodies: Bodies::default(), metrics, requires_client_certificate, shutdown }
    }

    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Result<Response<Full<Bytes>>, Refusal> {
        let (parts, body) = request.into_parts();
        let (_, route) = Route::of(parts.uri.path()).ok_or(Refusal::NotFound)?;
        match (route, &parts.method) {
            (Route::Mutate(_), _) if self.requires_client_certificate && !peer.has_client_certificate => {
                Err(Refusal::NoClientCertificate)
            }
            (Route::Mutate(namespace), &Method::POST) => {
                if !is_json(&parts.headers) {
                    return Err(Refusal::MediaType);
                }
                // A peer with a verified certificate has no limit of its own.
                let limited = (!peer.has_client_certificate).then(|| peer.ip());
                let body = self.bodies.read(body, limited).await?;
                let answer =
                    self.admission.answer(&body.bytes, namespace, limited, clock::monotonic()).await?;
                Ok(json_bytes(StatusCode::OK, answer.into()))
            }
            (Route::Mutate(_), _) => Err(Refusal::Method { allowed: "POST" }),
            (Route::Health, &Method::GET | &Method::HEAD) => Ok(plain(StatusCode::OK, "ok\n")),
            (Route::Health, _) => Err(Refusal::Method { allowed: "GET, HEAD" }),
        }
    }
}

impl Handler for Server {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let one = self.metrics.of(request.method(), request.uri().path(), clock::monotonic());
        let (mut response, code) = match self.answer(request, peer).await {
            Ok(response) => (response, "ok"),
            Err(refusal) => {
                let (address, code) = (peer.address, refusal.code());
                self.admission.log_limiter().log(peer.ip(), code, |suppressed| {
                    tracing::warn!(peer = %address, code, suppressed, "request refused: {refusal}");
                });
                (refusal.response(), refusal.code())
            }
        };
        if self.shutdown.is_asked() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        one.count(response.status().as_u16(), code);
        response
    }
}

/// Whether the body is said to be JSON, with parameters or without.
fn is_json(headers: &HeaderMap) -> bool {
    let said = headers.get(CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    let media_type = said.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_known_by_its_path_alone() {
        let mutate = |inject, require| Some(Route::Mutate(NamespaceSettings { inject, require }));
        for (path, expected) in [
            ("/mutate", mutate(false, false)),
            ("/mutate/inject", mutate(true, false)),
            ("/mutate/require", mutate(false, true)),
            ("/mutate/inject/require", mutate(true, true)),
            ("/healthz", Some(Route::Health)),
            ("/mutate/", None),
            ("/mutate/require/inject", None),
            ("/Mutate", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(Route::of(path).map(|(_, route)| route), expected, "{path:?}");
        }
    }

    #[test]
    fn json_is_json_with_any_parameters_and_nothing_else_is() {
        for (said, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;", true),
            ("application/json-patch+json", false),
            ("text/json", false),
            ("application/yaml", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(said))]);
            assert_eq!(is_json(&headers), expected, "{said:?}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
