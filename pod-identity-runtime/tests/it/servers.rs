//! Servers for the tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_runtime::http::plain;
use pod_identity_runtime::listener::{Handler, Listener, Peer};
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::{CertificateFiles, ServerTls, TlsVersion};
use testing::authority::Authority;
use tokio::sync::watch;

pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A handler from a closure.
pub(crate) struct FnHandler<F>(pub(crate) F);

impl<F, R> Handler for FnHandler<F>
where
    F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send,
{
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        self.0(request).await
    }
}

/// A server of documents that records the requests.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) address: SocketAddr,
    requests: AtomicUsize,
    served: Mutex<Vec<(String, Response<()>, String)>>,
    bearers: Mutex<Vec<(String, Option<String>)>>,
    open: watch::Sender<bool>,
}

impl Documents {
    pub(crate) async fn start(tls: Option<ServerTls>) -> Arc<Self> {
        let listener = Listener::bind(LOOPBACK).await.unwrap();
        let documents = Arc::new(Self {
            address: listener.address().unwrap(),
            requests: AtomicUsize::new(0),
            served: Mutex::default(),
            bearers: Mutex::default(),
            open: watch::Sender::new(true),
        });
        let listener = match tls {
            Some(tls) => listener.with_tls(tls),
            None => listener,
        };
        let own = documents.clone();
        let handler = FnHandler(move |request: Request<Incoming>| {
            let (answer, mut open) = (own.answer(&request), own.open.subscribe());
            async move {
                open.wait_for(|open| *open).await.unwrap();
                answer
            }
        });
        tokio::spawn(listener.serve(Arc::new(handler), Shutdown::never()));
        documents
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path();
        let bearer = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.bearers.lock().unwrap().push((path.to_owned(), bearer));
        match self.served.lock().unwrap().iter().rev().find(|(place, _, _)| place == path) {
            Some((_, head, body)) => head.clone().map(|()| Full::from(body.clone())),
            None => plain(StatusCode::NOT_FOUND, "nothing\n"),
        }
    }

    /// Serves a document from now on.
    pub(crate) fn serve(&self, path: &str, body: impl Into<Vec<u8>>) {
        let body = String::from_utf8(body.into()).unwrap();
        self.served.lock().unwrap().push((path.to_owned(), Response::new(()), body));
    }

    /// Returns another status from now on, with a `Location`.
    pub(crate) fn serve_status(&self, path: &str, status: u16, location: &str) {
        let head = Response::builder().status(status).header("location", location).body(()).unwrap();
        self.served.lock().unwrap().push((path.to_owned(), head, String::new()));
    }

    /// Sets whether responses are sent or wait.
    pub(crate) fn open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Returns the number of requests.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Returns the `Authorization` header of each request for a path.
    pub(crate) fn bearers(&self, path: &str) -> Vec<Option<String>> {
        let all = self.bearers.lock().unwrap();
        all.iter().filter(|(place, _)| place == path).map(|(_, bearer)| bearer.clone()).collect()
    }
}

/// Returns the TLS settings of a server with a new certificate of an authority.
pub(crate) fn server_tls(authority: &Authority) -> ServerTls {
    authority.write_pair();
    let files = CertificateFiles { certificate: authority.certificate_file(), key: authority.key_file() };
    ServerTls::read(files, TlsVersion::default()).unwrap()
}
