//! Endpoints over HTTPS, with the SDK's default client. `SSL_CERT_FILE` sets the system's certificates for a whole process,
//! so each request runs in a process of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use testing::authority::Authority;

use crate::replay::Endpoint;
use crate::side_by_side::{Implementation, JOB, Job, JobResult, run_in_process};

const TOKEN: &str = "the-pods-token";
const LOOPBACK: &str = "127.0.0.1";

/// A name that only the custom resolver knows.
const NAME: &str = "agent.invalid";

/// Calls an endpoint whose certificate is issued by `authority` for the host `named`. The system trusts `trusted`. Returns
/// the result and the wrong requests.
async fn fetch(
    host: &str,
    authority: &Authority,
    named: &str,
    trusted: &Authority,
    dns: Option<IpAddr>,
) -> (JobResult, Vec<String>) {
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
    let outcome = run_in_process([
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            format!("https://{host}:{}/v1/credentials", endpoint.address.port()),
        ),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN.to_owned()),
        ("SSL_CERT_FILE", trusted.ca_file().display().to_string()),
        (
            JOB,
            serde_json::to_string(&Job {
                implementation: Implementation::ThisCrate,
                attempt_ms: Some(1000),
                through_cache: false,
                dns,
            })
            .unwrap(),
        ),
    ]);
    (outcome.await, endpoint.failures())
}

#[tokio::test]
async fn trusted_endpoint_is_called() {
    let authority = Authority::new();
    let (outcome, wrong) = fetch(LOOPBACK, &authority, LOOPBACK, &authority, None).await;
    assert_eq!((outcome.credentials, wrong), (Some(true), Vec::new()), "{}", outcome.error);
}

#[tokio::test]
async fn endpoint_with_an_untrusted_certificate_gets_no_token() {
    let (outcome, wrong) = fetch(LOOPBACK, &Authority::new(), LOOPBACK, &Authority::new(), None).await;
    assert_eq!(outcome.credentials, Some(false));
    assert!(
        outcome.error.contains("TLS failed")
            && outcome.error.contains("invalid peer certificate")
            && outcome.error.contains("SSL_CERT_FILE"),
        "{}",
        outcome.error
    );
    let (request, handshakes) = wrong.split_last().unwrap();
    assert!(request.contains("request 0 was received 0 times"), "{request}");
    // There is no retry, because the certificate stays the same.
    assert!(matches!(handshakes, [wrong] if wrong.starts_with("TLS: ")), "{handshakes:?}");
}

#[tokio::test]
async fn custom_resolver_is_used_and_the_certificate_must_name_the_host() {
    let authority = Authority::new();
    let resolves_to = Some(Ipv4Addr::LOCALHOST.into());
    let (outcome, wrong) = fetch(NAME, &authority, NAME, &authority, resolves_to).await;
    assert_eq!((outcome.credentials, wrong), (Some(true), Vec::new()), "{}", outcome.error);
    let (outcome, _) = fetch(NAME, &authority, LOOPBACK, &authority, resolves_to).await;
    assert!(
        outcome.error.contains("TLS failed") && outcome.error.contains("names the URI's host"),
        "{}",
        outcome.error
    );
}

#[tokio::test]
async fn error_reports_a_name_that_cannot_be_resolved() {
    let authority = Authority::new();
    let (outcome, _) = fetch(NAME, &authority, NAME, &authority, None).await;
    assert!(outcome.error.contains("its name was not resolved"), "{}", outcome.error);
}
