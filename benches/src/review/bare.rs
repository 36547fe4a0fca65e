//! A minimal server with hyper and rustls: it reads each body to its end and has one response, no limits and no
//! timers.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testing::authority::Authority;
use tokio::net::TcpListener;

/// Returns TLS settings with the certificate of the webhook.
pub(super) fn server_tls(authority: &Authority) -> Result<Arc<ServerConfig>, Box<dyn std::error::Error>> {
    let chain = CertificateDer::pem_file_iter(authority.certificate_file())?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(authority.key_file())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

/// Serves a body to every request.
pub(super) async fn serve(body: Vec<u8>, tls: Arc<ServerConfig>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let (body, acceptor) = (Bytes::from(body), tokio_rustls::TlsAcceptor::from(tls));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (body, acceptor) = (body.clone(), acceptor.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true); // as in the webhook
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: Request<Incoming>| {
                    let mut response = Response::new(Full::new(body.clone()));
                    let headers = response.headers_mut();
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                    async move {
                        let _ = request.into_body().collect().await; // the load sends whole bodies
                        Ok::<_, Infallible>(response)
                    }
                });
                // It ends when the client disconnects.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}
