//! Handlers of the local listeners: issuer documents, STS, and inspection of STS.

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

/// Serves the documents of every cluster's issuer.
#[derive(Debug)]
pub(super) struct IssuerDocuments(pub(super) Vec<Arc<Issuer>>);

impl Handler for IssuerDocuments {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let (parts, _) = request.into_parts();
        let mut responses = self.0.iter().map(|issuer| issuer.handle(&parts));
        let found = responses.find(|response| response.status() != StatusCode::NOT_FOUND);
        found.map_or_else(
            || plain(StatusCode::NOT_FOUND, "no document of an issuer has this path\n"),
            |response| response.map(Full::new),
        )
    }
}

/// Serves STS.
#[derive(Debug)]
pub(crate) struct StsEndpoint(pub(crate) Arc<Sts>);

impl Handler for StsEndpoint {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        match read_body(body, MAX_BODY).await {
            Ok(body) => self.0.handle(&parts, &body, clock::now()).map(Full::new),
            Err(error) => plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }
}

/// Serves the sessions with their tags and the reasons of denials. No API of AWS returns them.
#[derive(Debug)]
pub(super) struct Inspection(pub(super) Arc<Sts>);

impl Handler for Inspection {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        if !host_is_loopback(&request) {
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
                None => plain(
                    StatusCode::NOT_FOUND,
                    "not found: want /sessions, /sessions/{accessKeyId} or /denials\n",
                ),
            },
        }
    }
}

/// Whether the `Host` header names this machine. A request of a web page that uses DNS rebinding names the page's host.
fn host_is_loopback(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| is_loopback(authority.host()))
}
