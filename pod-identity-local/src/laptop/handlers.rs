//! The laptop's own listeners: the issuer's documents, STS, and the look into STS.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_runtime::clock;
use pod_identity_runtime::http::{json, plain, read_body};
use pod_identity_runtime::listener::{Handler, Peer};
use pod_identity_runtime::outbound::is_loopback;

use crate::issuer::Issuer;
use crate::sts::{MAX_BODY, Sts};

/// The documents of every cluster's issuer.
#[derive(Debug)]
pub(super) struct IssuerDocuments(pub(super) Vec<Arc<Issuer>>);

impl Handler for IssuerDocuments {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let (parts, _) = request.into_parts();
        let mut answers = self.0.iter().map(|issuer| issuer.handle(&parts));
        let found = answers.find(|answer| answer.status() != StatusCode::NOT_FOUND);
        found.map_or_else(|| plain(StatusCode::NOT_FOUND, "no such issuer\n"), |answer| answer.map(Full::new))
    }
}

/// STS.
#[derive(Debug)]
pub(super) struct StsEndpoint(pub(super) Arc<Sts>);

impl Handler for StsEndpoint {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        match read_body(body, MAX_BODY).await {
            Ok(body) => self.0.handle(&parts, &body, clock::now()).map(Full::new),
            Err(error) => plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }
}

/// What no API of AWS shows: sessions with their tags, and why a session was denied.
#[derive(Debug)]
pub(super) struct Inspection(pub(super) Arc<Sts>);

impl Handler for Inspection {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        if !names_this_machine(&request) {
            return plain(
                StatusCode::FORBIDDEN,
                "the Host header must name a loopback address or localhost\n",
            );
        }
        match request.uri().path() {
            "/sessions" => json(StatusCode::OK, &self.0.sessions()),
            "/denials" => json(StatusCode::OK, &self.0.denials()),
            path => match path.strip_prefix("/sessions/").and_then(|key| self.0.inspect(key)) {
                Some(session) => json(StatusCode::OK, &session),
                None => {
                    plain(StatusCode::NOT_FOUND, "here are /sessions, /sessions/{accessKeyId} and /denials\n")
                }
            },
        }
    }
}

/// Whether the request names this machine as its host. A web page whose name resolves to a loopback address (DNS
/// rebinding) does not.
fn names_this_machine(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| is_loopback(authority.host()))
}
