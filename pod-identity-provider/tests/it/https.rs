//! Endpoints over HTTPS, with the SDK's own client and the system's certificates. `SSL_CERT_FILE` names those for a whole
//! process, so each case runs in a process of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use testing::authority::Authority;

use crate::replay::Endpoint;
use crate::side_by_side::{JOB, Job, Outcome, Side, in_a_process};

const TOKEN: &str = "the-pods-token";
const LOOPBACK: &str = "127.0.0.1";

/// A name that only the given resolver knows.
const NAME: &str = "agent.invalid";

/// Calls an endpoint with a certificate of `authority` for `named`, in a system that trusts `trusted`.
async fn ask(
    host: &str,
    authority: &Authority,
    named: &str,
    trusted: &Authority,
    dns: Option<IpAddr>,
) -> (Outcome, Vec<String>) {
    let (certificate, key) = authority.pair_for(&[named]);
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = versions.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let body = json!({
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": "2036-11-22T06:00:00Z",
    });
    let request =
        json!({"to": format!("https://{host}:${{port}}"), "path": "/v1/credentials", "authorization": TOKEN});
    let traffic = json!([{"request": request, "response": {"status": 200, "body": body}}]);
    let endpoint =
        Endpoint::start_tls(serde_json::from_value(traffic).unwrap(), Arc::new(config).into()).await;
    let outcome = in_a_process([
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            format!("https://{host}:{}/v1/credentials", endpoint.address.port()),
        ),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN.to_owned()),
        ("SSL_CERT_FILE", trusted.ca_file().display().to_string()),
        (
            JOB,
            serde_json::to_string(&Job {
                side: Side::Ours,
                attempt_ms: Some(1000),
                through_cache: false,
                dns,
            })
            .unwrap(),
        ),
    ]);
    (outcome.await, endpoint.wrong())
}

#[tokio::test]
async fn an_endpoint_that_the_system_trusts_is_called() {
    let authority = Authority::new();
    let (outcome, wrong) = ask(LOOPBACK, &authority, LOOPBACK, &authority, None).await;
    assert_eq!((outcome.credentials, wrong), (Some(true), Vec::new()), "{}", outcome.error);
}

#[tokio::test]
async fn an_endpoint_that_the_system_does_not_trust_gets_no_token() {
    let (outcome, wrong) = ask(LOOPBACK, &Authority::new(), LOOPBACK, &Authority::new(), None).await;
    assert_eq!(outcome.credentials, Some(false));
    assert!(
        outcome.error.contains("TLS failed")
            && outcome.error.contains("invalid peer certificate")
            && outcome.error.contains("SSL_CERT_FILE"),
        "{}",
        outcome.error
    );
    let (request, handshakes) = wrong.split_last().unwrap();
    assert!(request.contains("request 0 came 0 times"), "{request}");
    // There is no retry, since the certificate stays the same.
    assert!(matches!(handshakes, [wrong] if wrong.starts_with("TLS: ")), "{handshakes:?}");
}

#[tokio::test]
async fn the_given_resolver_is_used_and_the_certificate_must_name_the_host() {
    let authority = Authority::new();
    let there = Some(Ipv4Addr::LOCALHOST.into());
    let (outcome, wrong) = ask(NAME, &authority, NAME, &authority, there).await;
    assert_eq!((outcome.credentials, wrong), (Some(true), Vec::new()), "{}", outcome.error);
    let (outcome, _) = ask(NAME, &authority, LOOPBACK, &authority, there).await;
    assert!(
        outcome.error.contains("TLS failed") && outcome.error.contains("names the URI's host"),
        "{}",
        outcome.error
    );
}

#[tokio::test]
async fn a_name_that_is_not_resolved_is_in_the_error() {
    let authority = Authority::new();
    let (outcome, _) = ask(NAME, &authority, NAME, &authority, None).await;
    assert!(outcome.error.contains("its name was not resolved"), "{}", outcome.error);
}
