//! The audit log: one line for each response, with verified facts only.

use pod_identity_local::issuer::forgery;
use serde_json::{Value, json};
use testing::logs::lines_with;
use testing::wire::Answer;

use crate::test_auth::{Options, agent_request, pod, request, start_auth, token_mode};

fn line_of(answer: &Answer) -> (Value, String) {
    let lines = lines_with(&["pod_identity_auth::audit", answer.header("x-amzn-requestid").unwrap()]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    (serde_json::from_str(&lines[0]).unwrap(), lines[0].clone())
}

#[tokio::test]
async fn issuance_writes_one_line_with_the_verified_pod_and_no_secret() {
    let auth = start_auth(Options { agent_auth: token_mode(), ..Options::default() }).await;
    let pod = pod("cart");
    let (token, agent) = (auth.token(&pod), auth.services.issuer().mint(&agent_request(&pod)).unwrap());
    let answer = auth.exchange_in("demo", &token, &[("Authorization", &format!("Bearer {agent}"))]).await;
    let credentials = &answer.json()["credentials"];
    let (line, text) = line_of(&answer);
    for (field, value) in [
        ("decision", json!("issued")),
        ("code", json!("ok")),
        ("cluster", json!("demo")),
        ("namespace", json!("shop")),
        ("service_account", json!("cart")),
        ("pod", json!("cart-1")),
        ("pod_uid", json!(pod.pod.uid)),
        ("node", json!("laptop")),
        ("node_proven", json!(true)),
        ("caller", json!("agent on laptop")),
        ("role", json!("arn:aws:iam::111122223333:role/app")),
        ("access_key_id", credentials["accessKeyId"].clone()),
    ] {
        assert_eq!(line[field], value, "{field} of {text}");
    }
    // The whole log of the process at trace level contains no secret.
    for secret in ["secretAccessKey", "sessionToken"] {
        assert!(lines_with(&[credentials[secret].as_str().unwrap()]).is_empty(), "{secret}");
    }
    for token in [&token, &agent] {
        for part in token.split('.').skip(1) {
            assert!(lines_with(&[part]).is_empty());
        }
    }
}

#[tokio::test]
async fn refusal_after_verification_writes_the_pod_and_the_code() {
    let auth = start_auth(Options::default()).await;
    for (service_account, code, association) in
        [("nobody", "association_not_found", false), ("strict", "role_trust_refused", true)]
    {
        let (line, text) = line_of(&auth.exchange(&auth.token(&pod(service_account))).await);
        assert_eq!((&line["decision"], &line["code"]), (&json!("refused"), &json!(code)), "{text}");
        assert_eq!(line["service_account"], json!(service_account), "{text}");
        assert_eq!(line["association"].is_string(), association, "{text}");
        assert_eq!(line["node_proven"], json!(false), "{text}");
        assert!(line["access_key_id"].is_null());
    }
}

#[tokio::test]
async fn line_has_nothing_of_an_unverified_token() {
    let auth = start_auth(Options::default()).await;
    let mut pod = pod("cart");
    pod.namespace = "forged-namespace".parse().unwrap();
    let issuer = auth.services.issuer();
    let claims = issuer.claims(&request(&pod)).to_string();
    let header = issuer.signing_key().header().to_string();
    let other = auth.token(&pod);
    let forged = forgery::with_signature_of(&other, &header, &claims);
    for (token, code) in [
        (forged.clone(), "token_signature_invalid"),
        (forged[..forged.len() - 2].to_owned(), "token_signature_invalid"),
        ("not a token forged-namespace".to_owned(), "token_malformed"),
    ] {
        let (line, text) = line_of(&auth.exchange(&token).await);
        assert_eq!(line["code"], json!(code), "{text}");
        for field in ["namespace", "service_account", "pod", "pod_uid", "node", "token_id", "association"] {
            assert!(line[field].is_null(), "{field} of {text}");
        }
        assert!(!text.contains("forged-namespace") && !text.contains(&token[..12]), "{text}");
    }
}
