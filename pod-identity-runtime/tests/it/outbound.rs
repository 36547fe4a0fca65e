//! Limits and certificates of outgoing requests.

use std::time::Duration;

use pod_identity_runtime::outbound::{Outbound, OutboundError};
use testing::authority::Authority;

use crate::servers::{Documents, server_tls};

#[tokio::test]
async fn redirects_are_not_followed() {
    let documents = Documents::start(None).await;
    documents.serve("/there", "{}");
    for status in [301, 302, 303, 307, 308] {
        documents.serve_status("/here", status, "/there");
        let getter = Outbound::default().getter().unwrap();
        let error = getter.get(&format!("http://{}/here", documents.address), None, 1000).await.unwrap_err();
        assert!(matches!(error, OutboundError::Status { status: found, .. } if found == status), "{error}");
    }
    assert!(documents.bearers("/there").is_empty());
}

#[tokio::test]
async fn http_to_another_machine_is_refused_before_anything_is_sent() {
    let getter = Outbound::default().getter().unwrap();
    for url in ["http://10.0.0.1/keys", "http://issuer.example/keys", "ftp://127.0.0.1/", "keys", ""] {
        let error = getter.get(url, Some("token"), 1000).await.unwrap_err();
        assert!(matches!(error, OutboundError::Url { .. }), "{url}: {error}");
    }
}

#[tokio::test]
async fn document_above_its_limit_is_refused() {
    let documents = Documents::start(None).await;
    documents.serve("/keys", "x".repeat(1001));
    let getter = Outbound::default().getter().unwrap();
    let url = format!("http://{}/keys", documents.address);
    assert!(matches!(getter.get(&url, None, 1000).await, Err(OutboundError::Transport { .. })));
    assert_eq!(getter.get(&url, None, 1001).await.unwrap().len(), 1001);
}

/// Time after which a changed file is used: it is checked once per second.
const CHECKED: Duration = Duration::from_millis(1100);

fn replace(file: &std::path::Path, pem: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, pem).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn changed_ca_file_is_used_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let documents = Documents::start(Some(server_tls(&new))).await;
    documents.serve("/keys", "{}");
    let url = format!("https://{}/keys", documents.address);
    let file = old.ca_file();
    let getter = Outbound { ca_file: Some(file.clone()), proxy_from_environment: false }.getter().unwrap();
    let error = getter.get(&url, None, 1000).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    replace(&file, &new.ca_pem());
    tokio::time::sleep(CHECKED).await;
    getter.get(&url, None, 1000).await.unwrap();
    // A file that cannot be used changes nothing.
    replace(&file, "no certificate");
    tokio::time::sleep(CHECKED).await;
    getter.get(&url, None, 1000).await.unwrap();
    // A removed authority is not trusted any more.
    replace(&file, &Authority::new().ca_pem());
    tokio::time::sleep(CHECKED).await;
    let error = getter.get(&url, None, 1000).await.unwrap_err();
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

/// The name of the variable that makes this test program run a check in a child process, which has no CA certificates.
const CHILD: &str = "TEST_WITHOUT_CA_CERTIFICATES";

#[tokio::test]
async fn child_without_ca_certificates() {
    let Ok(ca_file) = std::env::var(CHILD) else { return };
    let outbound = Outbound::default();
    let error = |result: Result<(), OutboundError>| result.unwrap_err().to_string();
    for text in [
        error(outbound.sdk_client(None).map(|_| ())),
        error(outbound.sdk_client(Some("https://sts.example")).map(|_| ())),
        error(outbound.getter().unwrap().get("https://127.0.0.1:9/", None, 1).await.map(|_| ())),
    ] {
        for part in ["no CA certificate", "SSL_CERT_", "--ca-file", "/etc/ssl/certs/ca-certificates.crt"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    outbound.sdk_client(Some("http://127.0.0.1:1")).expect("http needs no CA certificate");
    let with_file = Outbound { ca_file: Some(ca_file.into()), ..Outbound::default() };
    with_file.sdk_client(None).expect("a CA file is enough");
    let unreachable = with_file.getter().unwrap().get("https://127.0.0.1:9/", None, 1).await.unwrap_err();
    assert!(matches!(unreachable, OutboundError::Transport { .. }), "{unreachable}");
}

#[test]
fn https_without_ca_certificates_is_refused_at_the_start() {
    let authority = testing::authority::Authority::new();
    let (file, directory) = (tempfile::NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
    for (variable, place) in [
        ("SSL_CERT_FILE", file.path()),
        ("SSL_CERT_DIR", directory.path()),
        ("SSL_CERT_FILE", "/no/such/file".as_ref()),
    ] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "outbound::child_without_ca_certificates", "--nocapture"]);
        child.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").env(variable, place);
        let output = child.env(CHILD, authority.ca_file()).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("1 passed"), "{variable}: {output:#?}");
    }
}
