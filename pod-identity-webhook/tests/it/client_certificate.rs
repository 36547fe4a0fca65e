//! Reviews over TLS with and without a client certificate.

use testing::authority::Authority;
use testing::eventually::eventually;
use testing::wire::Answer;

use crate::webhook::{Client, Decision, JSON, Webhook, pod, review};

/// Starts a webhook that requires client certificates. Returns it with their authority and a client that has one.
async fn start() -> (Webhook, Authority, Client) {
    let api_server = Authority::new();
    let flag = format!("--client-ca-file={}", api_server.ca_file().display());
    let webhook = Webhook::start(&[&flag]).await;
    let certificate = Some(api_server.pair_for(&["kube-apiserver"]));
    (webhook, api_server, Client { certificate, ..Client::default() })
}

async fn ask(webhook: &Webhook, client: &Client, line: &str) -> std::io::Result<Answer> {
    let body = if line.starts_with("POST") { review(&pod("cart")) } else { vec![] };
    let length = body.len().to_string();
    let headers = [("Host", "webhook"), ("Connection", "close"), JSON, ("Content-Length", length.as_str())];
    webhook.connect_as(client).await?.ask(line, &headers, &body).await
}

const REVIEWS: [&str; 4] =
    ["POST /mutate", "POST /mutate/inject", "POST /mutate/require", "POST /mutate/inject/require?timeout=5s"];

#[tokio::test]
async fn accepts_reviews_with_a_verified_client_certificate_only() {
    let (webhook, _, api_server) = start().await;
    let without_certificate = Client::default();
    for line in REVIEWS {
        let answer = ask(&webhook, &api_server, line).await.unwrap();
        assert_eq!(answer.status, 200, "{line}: {}", answer.text());
        let decision = Decision::of(&answer);
        assert!(decision.allowed && !decision.paths.is_empty(), "{line}: {decision:?}");

        let answer = ask(&webhook, &without_certificate, line).await.unwrap();
        assert_eq!(answer.status, 403, "{line}: {}", answer.text());
        for flag in ["--client-ca-file", "--admission-control-config-file"] {
            assert!(answer.text().contains(flag), "{line}: {}", answer.text());
        }
    }
    let refused = r#"pod_identity_http_responses_total{status="403",code="no_client_certificate"}"#;
    assert_eq!(webhook.metric(refused).await, Some(4.0));
    for client in [&api_server, &without_certificate] {
        assert_eq!(ask(&webhook, client, "GET /healthz").await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn rejects_the_handshake_with_a_certificate_of_another_authority() {
    let (webhook, _, api_server) = start().await;
    let foreign = Authority::new();
    // The authority of the webhook's certificate is not one for clients either.
    for authority in [&foreign, &webhook.authority] {
        let certificate = Some(authority.pair_for(&["kube-apiserver"]));
        let client = Client { certificate, ..Client::default() };
        for line in ["POST /mutate", "GET /healthz"] {
            let answer = ask(&webhook, &client, line).await;
            assert!(answer.is_err(), "{line}: {answer:?}");
        }
    }
    assert_eq!(ask(&webhook, &api_server, "POST /mutate").await.unwrap().status, 200);
}

#[tokio::test]
async fn uses_a_replaced_client_ca_without_a_restart() {
    let (webhook, authority, old) = start().await;
    assert_eq!(ask(&webhook, &old, "POST /mutate").await.unwrap().status, 200);
    let next = Authority::new();
    std::fs::write(authority.ca_file(), next.ca_pem()).unwrap();
    let certificate = Some(next.pair_for(&["kube-apiserver"]));
    let new = Client { certificate, ..Client::default() };
    eventually("the new authority is used", async || {
        let answer = ask(&webhook, &new, "POST /mutate").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    assert!(ask(&webhook, &old, "POST /mutate").await.is_err());
}

#[tokio::test]
async fn requests_no_client_certificate_without_a_client_ca() {
    let webhook = Webhook::start(&[]).await;
    assert_eq!(ask(&webhook, &Client::default(), "POST /mutate").await.unwrap().status, 200);
}
