//! TLS, and certificates that change under load.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use pod_identity_runtime::http::plain;
use pod_identity_runtime::listener::Listener;
use pod_identity_runtime::shutdown::Shutdown;
use rustls_pki_types::{CertificateDer, ServerName};
use testing::authority::Authority;
use testing::eventually::eventually;
use testing::wire::Connection;
use tokio::net::TcpStream;

use crate::servers::{Answering, LOOPBACK, server_tls};

async fn serve(authority: &Authority) -> SocketAddr {
    let tls = server_tls(authority);
    tokio::spawn(tls.clone().follow(Shutdown::never()));
    let listener = Listener::bind(LOOPBACK).await.unwrap().with_tls(tls);
    let address = listener.address().unwrap();
    let handler = Answering(|_: Request<Incoming>| async { plain(StatusCode::OK, "ok") });
    tokio::spawn(listener.serve(Arc::new(handler), Shutdown::never()));
    address
}

/// Asks over a new connection; gives the status and the certificate that the server showed.
async fn ask(address: SocketAddr, authority: &Authority) -> std::io::Result<(u16, CertificateDer<'static>)> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.ca_der().into()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await?;
    let stream = connector.connect(ServerName::from(address.ip()), stream).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
    let answer = Connection::over(stream).ask("GET /", &[("Host", "x")], b"").await?;
    Ok((answer.status, shown))
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_gets_an_answer_and_another_does_not() {
    let authority = Authority::new();
    let address = serve(&authority).await;
    assert_eq!(ask(address, &authority).await.unwrap().0, 200);
    let error = ask(address, &Authority::new()).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_client_that_speaks_no_tls_harms_nobody() {
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
    testing::logs::remember();
    let authority = Authority::new();
    let address = serve(&authority).await;
    let before = ask(address, &authority).await.unwrap().1;

    let (certificate, key) = authority.pair();
    std::fs::write(authority.certificate_file(), &certificate).unwrap();
    let name = authority.certificate_file().display().to_string();
    eventually("it is said that the certificate was not replaced", || async {
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
