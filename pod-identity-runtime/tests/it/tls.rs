//! TLS, and replacement of certificates under load.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use pod_identity_runtime::http::plain;
use pod_identity_runtime::listener::Listener;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::{ServerTls, TlsVersion};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use testing::authority::Authority;
use testing::eventually::eventually;
use testing::wire::Connection;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::servers::{FnHandler, LOOPBACK, server_tls};

async fn serve(authority: &Authority) -> SocketAddr {
    serve_with(server_tls(authority)).await
}

async fn serve_with(tls: ServerTls) -> SocketAddr {
    tokio::spawn(tls.clone().follow(Shutdown::never()));
    let listener = Listener::bind(LOOPBACK).await.unwrap().with_tls(tls);
    let address = listener.address().unwrap();
    let handler = FnHandler(|_: Request<Incoming>| async { plain(StatusCode::OK, "ok") });
    tokio::spawn(listener.serve(Arc::new(handler), Shutdown::never()));
    address
}

/// A client that trusts the authority and resumes sessions.
fn client(authority: &Authority, versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.ca_der().into()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn connect(address: SocketAddr, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    client.connect(ServerName::from(address.ip()), stream).await
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Sends a request over a new connection. Returns the status and the server's certificate.
async fn ask(address: SocketAddr, authority: &Authority) -> std::io::Result<(u16, CertificateDer<'static>)> {
    let stream = connect(address, &client(authority, rustls::ALL_VERSIONS)).await?;
    let shown = shown(&stream);
    let answer = Connection::over(stream).ask("GET /", &[("Host", "x")], b"").await?;
    Ok((answer.status, shown))
}

/// Returns a certificate and key of the authority in memory.
fn pair(authority: &Authority) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let (certificate, key) = authority.pair();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    (vec![certificate], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
}

#[tokio::test]
async fn only_a_client_that_trusts_the_authority_gets_a_response() {
    let authority = Authority::new();
    let address = serve(&authority).await;
    assert_eq!(ask(address, &authority).await.unwrap().0, 200);
    let error = ask(address, &Authority::new()).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn client_without_tls_affects_no_other() {
    let authority = Authority::new();
    let address = serve(&authority).await;
    let mut plain = Connection::open(address).await.unwrap();
    assert!(plain.ask("GET /", &[("Host", "x")], b"").await.is_err());
    assert_eq!(ask(address, &authority).await.unwrap().0, 200);
}

#[tokio::test]
async fn certificates_are_replaced_under_load_without_a_failed_request() {
    let authority = Arc::new(Authority::new());
    let address = serve(&authority).await;
    let load = |authority: Arc<Authority>| async move {
        loop {
            assert_eq!(ask(address, &authority).await.unwrap().0, 200);
        }
    };
    let loads: Vec<_> = (0..4).map(|_| tokio::spawn(load(authority.clone()))).collect();

    let first = ask(address, &authority).await.unwrap().1;
    authority.write_pair();
    eventually("the new certificate is shown", || async {
        (ask(address, &authority).await.unwrap().1 != first).then_some(())
    })
    .await;
    for load in loads {
        assert!(!load.is_finished(), "{:?}", load.await);
        load.abort();
    }
}

#[tokio::test]
async fn a_half_written_pair_leaves_the_old_certificate_in_use() {
    testing::logs::capture();
    let authority = Authority::new();
    let address = serve(&authority).await;
    let before = ask(address, &authority).await.unwrap().1;

    let (certificate, key) = authority.pair();
    std::fs::write(authority.certificate_file(), &certificate).unwrap();
    let name = authority.certificate_file().display().to_string();
    eventually("the failed replacement is logged", || async {
        testing::logs::lines_with(&["the old one stays in use", &name]).pop()
    })
    .await;
    assert_eq!(ask(address, &authority).await.unwrap().1, before);

    std::fs::write(authority.key_file(), &key).unwrap();
    eventually("the whole pair is in use", || async {
        (ask(address, &authority).await.unwrap().1 != before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn older_tls_versions_are_refused() {
    let authority = Authority::new();
    for (oldest, taken) in [(TlsVersion::V1_2, true), (TlsVersion::V1_3, false)] {
        let tls = ServerTls::in_memory(oldest);
        let (chain, key) = pair(&authority);
        tls.replace(chain, key).unwrap();
        let address = serve_with(tls).await;
        assert!(connect(address, &client(&authority, &[&TLS13])).await.is_ok(), "{oldest:?}");
        match connect(address, &client(&authority, &[&TLS12])).await {
            Ok(_) => assert!(taken, "{oldest:?}"),
            Err(error) => {
                assert!(!taken, "{oldest:?}: {error}");
                assert!(error.to_string().contains("ProtocolVersion"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn certificate_from_memory_is_used_at_once_and_a_mismatched_pair_never() {
    let authority = Authority::new();
    let tls = ServerTls::in_memory(TlsVersion::default());
    let address = serve_with(tls.clone()).await;
    let error = ask(address, &authority).await.unwrap_err();
    let closed = [std::io::ErrorKind::UnexpectedEof, std::io::ErrorKind::ConnectionReset];
    assert!(closed.contains(&error.kind()), "{error}");

    let (chain, key) = pair(&authority);
    tls.replace(chain.clone(), key).unwrap();
    assert_eq!(ask(address, &authority).await.unwrap(), (200, chain[0].clone()));

    let (other, _) = pair(&authority);
    let error = tls.replace(other, pair(&authority).1).unwrap_err();
    assert!(error.to_string().contains("KeyMismatch"), "{error}");
    assert_eq!(ask(address, &authority).await.unwrap(), (200, chain[0].clone()));
}

#[tokio::test]
async fn sessions_end_with_their_certificate_and_open_connections_do_not() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let tls = ServerTls::in_memory(TlsVersion::default());
        let (chain, key) = pair(&authority);
        tls.replace(chain.clone(), key).unwrap();
        let address = serve_with(tls.clone()).await;
        let client = client(&authority, &[version]);
        // Sends a request over a new connection. Returns the kind of handshake and the certificate.
        let ask = async || {
            let stream = connect(address, &client).await.unwrap();
            let (kind, shown) = (stream.get_ref().1.handshake_kind().unwrap(), shown(&stream));
            let mut connection = Connection::over(stream);
            assert_eq!(connection.ask("GET /", &[("Host", "x")], b"").await.unwrap().status, 200);
            (connection, kind, shown)
        };
        let (mut open, kind, _) = ask().await;
        assert_eq!(kind, HandshakeKind::Full, "{version:?}");
        assert_eq!(ask().await.1, HandshakeKind::Resumed, "{version:?}");

        let (new, key) = pair(&authority);
        tls.replace(new.clone(), key).unwrap();
        let (_, kind, shown) = ask().await;
        assert_eq!((kind, shown), (HandshakeKind::Full, new[0].clone()), "{version:?}");
        assert_eq!(open.ask("GET /", &[("Host", "x")], b"").await.unwrap().status, 200, "{version:?}");
    }
}
