//! Several clusters with similar names, issuers and keys.

use pod_identity_runtime::clock;
use pod_identity_runtime::http::BODY_TIMEOUT;
use serde_json::json;
use testing::wire::{Connection, ask};

use testing::eventually::eventually;

use crate::test_auth::{Options, code, pod, request, start_auth, write};

#[tokio::test]
async fn refuses_a_token_of_another_cluster_with_the_same_issuer() {
    let auth = start_auth(Options::default()).await;
    let (demo, twin) = (auth.services.issuer(), auth.services.issuer_of(&"twin".parse().unwrap()).unwrap());
    assert_eq!(demo.issuer(), twin.issuer());
    let pod = pod("cart");
    for (issuer, own, other) in [(demo, "demo", "twin"), (&**twin, "twin", "demo")] {
        let token = issuer.mint(&request(&pod)).unwrap();
        let session = auth.session(&auth.exchange_in(own, &token, &[]).await);
        assert_eq!(session.tags.value("eks-cluster-name"), Some(own));
        assert_eq!(code(&auth.exchange_in(other, &token, &[]).await), "token_key_unknown");
    }
    // A token with the key id of the other cluster.
    let header = json!({"alg": "ES256", "kid": twin.signing_key().kid()}).to_string();
    let token = demo.sign(&header, &demo.claims(&request(&pod)).to_string()).unwrap();
    assert_eq!(code(&auth.exchange_in("twin", &token, &[]).await), "token_signature_invalid");
}

#[tokio::test]
async fn accepts_tokens_of_the_old_and_the_new_issuer() {
    const OLD: &str = "https://old.example.internal";
    let auth = start_auth(Options::default()).await;
    let demo = auth.services.issuer();
    let of = |issuer: &str| {
        let mut claims = demo.claims(&request(&pod("cart")));
        claims["iss"] = json!(issuer);
        demo.sign(&demo.signing_key().header().to_string(), &claims.to_string()).unwrap()
    };
    assert_eq!(code(&auth.exchange(&of(OLD)).await), "token_issuer_wrong");

    let mut file = serde_json::to_value(auth.services.associations()).unwrap();
    let demo_entry = file["clusters"].as_array_mut().unwrap().iter_mut().find(|one| one["name"] == "demo");
    demo_entry.unwrap()["issuers"] = json!([demo.issuer(), OLD]);
    write(&auth.file(), &file.to_string());
    eventually("the old issuer is accepted", || async {
        (code(&auth.exchange(&of(OLD)).await) == "ok").then_some(())
    })
    .await;
    assert_eq!(code(&auth.exchange(&of(demo.issuer())).await), "ok");
    for other in ["https://other.example.internal", "https://old.example.internal/"] {
        let answer = auth.exchange(&of(other)).await;
        assert_eq!(code(&answer), "token_issuer_wrong");
        let text = answer.json()["message"].as_str().unwrap().to_owned();
        for issuer in [other, OLD, demo.issuer()] {
            assert!(text.contains(&format!("\"{issuer}\"")), "{issuer} is not in {text}");
        }
    }
    let twin = auth.services.issuer_of(&"twin".parse().unwrap()).unwrap();
    let mut claims = twin.claims(&request(&pod("cart")));
    claims["iss"] = json!(OLD);
    let forged = twin.sign(&demo.signing_key().header().to_string(), &claims.to_string()).unwrap();
    assert_eq!(code(&auth.exchange(&forged).await), "token_signature_invalid");
}

#[tokio::test]
async fn accepts_a_cluster_name_with_dots() {
    let auth = start_auth(Options::default()).await;
    let mut file = serde_json::to_string(auth.services.associations()).unwrap();
    file = file.replace(r#""demo""#, r#""k8s.example.com""#);
    write(&auth.file(), &file);
    let token = auth.token(&pod("cart"));
    let answer = eventually("the cluster is known", || async {
        let answer = auth.exchange_in("k8s.example.com", &token, &[]).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    let session = auth.session(&answer);
    assert_eq!(session.tags.value("eks-cluster-name"), Some("k8s.example.com"));
    let arn = answer.json()["assumedRoleUser"]["arn"].as_str().unwrap().to_owned();
    assert!(arn.contains("/eks-k8s.exampl"), "{arn}");
    assert_eq!(code(&auth.exchange_in("..", &token, &[]).await), "request_malformed");
}

#[tokio::test]
async fn unknown_cluster_and_unknown_path_are_different_errors() {
    let auth = start_auth(Options::default()).await;
    let token = auth.token(&pod("cart"));
    for (cluster, refused, status) in [
        ("other", "cluster_unknown", 404),
        ("DEMO", "cluster_unknown", 404),
        ("demo%2f..%2ftwin", "request_malformed", 400),
        ("demo/x", "not_found", 404),
        ("", "request_malformed", 400),
    ] {
        let answer = auth.exchange_in(cluster, &token, &[]).await;
        assert_eq!((code(&answer).as_str(), answer.status), (refused, status), "{cluster:?}");
    }
    assert_eq!(auth.exchange_in("%64emo", &token, &[]).await.status, 200);
    let nobody = auth.token(&pod("nobody"));
    let answer = auth.exchange(&nobody).await;
    assert_eq!((code(&answer).as_str(), answer.status), ("association_not_found", 404));
}

#[tokio::test]
async fn rejects_a_request_body_that_is_an_array() {
    let auth = start_auth(Options::default()).await;
    let token = auth.token(&pod("cart"));
    let line = "POST /clusters/demo/assume-role-for-pod-identity";
    let body = json!([token]).to_string();
    let answer = ask(auth.address, line, &[], body.as_bytes()).await.unwrap();
    assert_eq!((code(&answer).as_str(), answer.status), ("request_malformed", 400));
}

#[tokio::test]
async fn rejects_a_huge_content_length_at_once() {
    let auth = start_auth(Options::default()).await;
    let started = clock::monotonic();
    let mut connection = Connection::open(auth.address).await.unwrap();
    let line = "POST /clusters/demo/assume-role-for-pod-identity HTTP/1.1";
    let head = format!("{line}\r\nHost: auth\r\nContent-Length: 1000000000000\r\n\r\n");
    connection.send(head.as_bytes()).await.unwrap();
    let answer = connection.answer().await.unwrap();
    assert_eq!((code(&answer).as_str(), answer.status), ("request_too_large", 400));
    assert!(started.elapsed() < BODY_TIMEOUT, "the response does not wait for the body");
}
