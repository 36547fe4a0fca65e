//! Requests and their responses.

use serde_json::json;

use crate::webhook::{JSON, Webhook, pod, review};

#[tokio::test]
async fn injects_only_pods_whose_service_account_has_a_role() {
    let webhook = Webhook::start(&[]).await;
    let injected = webhook.review("/mutate", &pod("cart")).await;
    assert!(injected.allowed);
    let paths =
        ["/metadata/labels/eks.amazonaws.com~1pod-identity", "/spec/volumes", "/spec/containers/0/env/-"];
    assert_eq!(injected.paths[..3], paths);
    let other = webhook.review("/mutate", &pod("pay")).await;
    assert!(other.allowed && other.paths.is_empty() && other.warnings.is_empty(), "{other:?}");
    for (metric, expected) in [
        (r#"pod_identity_webhook_reviews_total{outcome="injected"}"#, 1.0),
        (r#"pod_identity_webhook_reviews_total{outcome="no_role"}"#, 1.0),
        (r#"pod_identity_webhook_pod_count{method="container_credentials"}"#, 1.0),
        ("pod_identity_webhook_used", 1.0),
        (r#"pod_identity_http_responses_total{status="200",code="ok"}"#, 2.0),
        (r#"http_request_count{verb="POST",path="/mutate",code="200"}"#, 2.0),
    ] {
        assert_eq!(webhook.metric(metric).await, Some(expected), "{metric}");
    }
}

#[tokio::test]
async fn refuses_invalid_requests_with_the_cause_and_keeps_the_connection() {
    let webhook = Webhook::start(&[]).await;
    let review = review(&pod("cart"));
    let mut connection = webhook.connect().await.unwrap();
    for (line, kind, body, status, cause) in [
        ("POST /mutate", "application/json", &b"{"[..], 400, "not an AdmissionReview"),
        ("POST /mutate", "application/json", b"", 400, "not an AdmissionReview"),
        ("POST /mutate", "application/json", b"\xff\xfe\x00", 400, "not an AdmissionReview"),
        ("POST /mutate", "application/json", br#"{"kind": "Pod", "apiVersion": "v1"}"#, 400, "\"Pod\""),
        ("POST /mutate", "application/yaml", &review, 415, "application/json"),
        ("POST /mutate", "", &review, 415, "application/json"),
        ("POST /", "application/json", &review, 404, "/mutate"),
        ("POST /mutate/nothing", "application/json", &review, 404, "/mutate"),
        ("GET /mutate", "application/json", b"", 405, "use POST"),
        ("PUT /mutate/require", "application/json", &review, 405, "use POST"),
        ("POST /healthz", "application/json", &review, 405, "use GET, HEAD"),
        ("GET /healthz", "", b"", 200, "ok"),
        ("POST /mutate", "application/json; charset=utf-8", &review, 200, "AdmissionReview"),
    ] {
        let length = body.len().to_string();
        let headers = [("Host", "webhook"), ("Content-Type", kind), ("Content-Length", &length)];
        let answer = connection.ask(line, &headers, body).await.unwrap();
        assert_eq!(answer.status, status, "{line} {kind}: {}", answer.text());
        assert!(answer.text().contains(cause), "{line} {kind}: {}", answer.text());
        let allowed = match line {
            "GET /mutate" | "PUT /mutate/require" => Some("POST"),
            "POST /healthz" => Some("GET, HEAD"),
            _ => None,
        };
        assert_eq!(answer.header("allow"), allowed, "{line}");
    }
    let no_review = r#"pod_identity_http_responses_total{status="400",code="no_review"}"#;
    assert_eq!(webhook.metric(no_review).await, Some(4.0));
}

#[tokio::test]
async fn responds_in_the_version_of_the_review() {
    let webhook = Webhook::start(&[]).await;
    for version in ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"] {
        let mut body: serde_json::Value = serde_json::from_slice(&review(&pod("cart"))).unwrap();
        body["apiVersion"] = json!(version);
        let answer = webhook.ask("POST /mutate", &[JSON], body.to_string().as_bytes()).await;
        assert_eq!((answer.status, &answer.json()["apiVersion"]), (200, &json!(version)));
        assert_eq!(answer.json()["response"]["patchType"], "JSONPatch");
    }
}
