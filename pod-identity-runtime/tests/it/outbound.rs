//! Limits of outgoing requests.

use pod_identity_runtime::outbound::{Outbound, OutboundError};

use crate::servers::Documents;

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
