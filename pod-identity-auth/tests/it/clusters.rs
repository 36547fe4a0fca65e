//! Several clusters with similar names, issuers and keys.

use pod_identity_runtime::clock;
use pod_identity_runtime::http::BODY_TIMEOUT;
use serde_json::json;
use testing::wire::{Connection, ask};

use testing::eventually::eventually;

use crate::stand::{Plan, code, pod, request, stand, write};

#[tokio::test]
async fn a_token_of_one_cluster_is_nothing_in_another_with_the_same_issuer() {
    let stand = stand(Plan::default()).await;
    let (demo, twin) = (stand.laptop.issuer(), stand.laptop.issuer_of(&"twin".parse().unwrap()).unwrap());
    assert_eq!(demo.issuer(), twin.issuer());
    let pod = pod("cart");
    for (issuer, own, other) in [(demo, "demo", "twin"), (&**twin, "twin", "demo")] {
        let token = issuer.mint(&request(&pod)).unwrap();
        let session = stand.session(&stand.ask_in(own, &token, &[]).await);
        assert_eq!(session.tags.value("eks-cluster-name"), Some(own));
        assert_eq!(code(&stand.ask_in(other, &token, &[]).await), "token_key_unknown");
    }
    // A token with the key id of the other cluster.
    let header = json!({"alg": "ES256", "kid": twin.signing_key().kid()}).to_string();
    let token = demo.sign(&header, &demo.claims(&request(&pod)).to_string()).unwrap();
    assert_eq!(code(&stand.ask_in("twin", &token, &[]).await), "token_signature_invalid");
}

#[tokio::test]
async fn a_cluster_that_changes_its_issuer_accepts_tokens_of_both() {
    const OLD: &str = "https://old.example.internal";
    let stand = stand(Plan::default()).await;
    let demo = stand.laptop.issuer();
    let of = |issuer: &str| {
        let mut claims = demo.claims(&request(&pod("cart")));
        claims["iss"] = json!(issuer);
        demo.sign(&demo.signing_key().header().to_string(), &claims.to_string()).unwrap()
    };
    assert_eq!(code(&stand.ask(&of(OLD)).await), "token_issuer_wrong");

    let mut file = serde_json::to_value(stand.laptop.associations()).unwrap();
    let demo_entry = file["clusters"].as_array_mut().unwrap().iter_mut().find(|one| one["name"] == "demo");
    demo_entry.unwrap()["issuers"] = json!([demo.issuer(), OLD]);
    write(&stand.file(), &file.to_string());
    eventually("the old issuer is accepted", || async {
        (code(&stand.ask(&of(OLD)).await) == "ok").then_some(())
    })
    .await;
    assert_eq!(code(&stand.ask(&of(demo.issuer())).await), "ok");
    for other in ["https://other.example.internal", "https://old.example.internal/"] {
        let answer = stand.ask(&of(other)).await;
        assert_eq!(code(&answer), "token_issuer_wrong");
        let text = answer.json()["message"].as_str().unwrap().to_owned();
        for issuer in [other, OLD, demo.issuer()] {
            assert!(text.contains(&format!("\"{issuer}\"")), "{issuer} is not in {text}");
        }
    }
    let twin = stand.laptop.issuer_of(&"twin".parse().unwrap()).unwrap();
    let mut claims = twin.claims(&request(&pod("cart")));
    claims["iss"] = json!(OLD);
    let forged = twin.sign(&demo.signing_key().header().to_string(), &claims.to_string()).unwrap();
    assert_eq!(code(&stand.ask(&forged).await), "token_signature_invalid");
}

#[tokio::test]
async fn a_cluster_name_may_have_dots() {
    let stand = stand(Plan::default()).await;
    let mut file = serde_json::to_string(stand.laptop.associations()).unwrap();
    file = file.replace(r#""demo""#, r#""k8s.example.com""#);
    write(&stand.file(), &file);
    let token = stand.token(&pod("cart"));
    let answer = eventually("the cluster is known", || async {
        let answer = stand.ask_in("k8s.example.com", &token, &[]).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    let session = stand.session(&answer);
    assert_eq!(session.tags.value("eks-cluster-name"), Some("k8s.example.com"));
    let arn = answer.json()["assumedRoleUser"]["arn"].as_str().unwrap().to_owned();
    assert!(arn.contains("/eks-k8s.exampl"), "{arn}");
    assert_eq!(code(&stand.ask_in("..", &token, &[]).await), "request_malformed");
}

#[tokio::test]
async fn a_cluster_that_is_not_configured_and_a_path_that_is_none_are_told_apart() {
    let stand = stand(Plan::default()).await;
    let token = stand.token(&pod("cart"));
    for (cluster, refused, status) in [
        ("other", "cluster_unknown", 404),
        ("DEMO", "cluster_unknown", 404),
        ("demo%2f..%2ftwin", "request_malformed", 400),
        ("demo/x", "not_found", 404),
        ("", "request_malformed", 400),
    ] {
        let answer = stand.ask_in(cluster, &token, &[]).await;
        assert_eq!((code(&answer).as_str(), answer.status), (refused, status), "{cluster:?}");
    }
    assert_eq!(stand.ask_in("%64emo", &token, &[]).await.status, 200);
    let nobody = stand.token(&pod("nobody"));
    let answer = stand.ask(&nobody).await;
    assert_eq!((code(&answer).as_str(), answer.status), ("association_not_found", 404));
}

#[tokio::test]
async fn rejects_a_request_body_that_is_an_array() {
    let stand = stand(Plan::default()).await;
    let token = stand.token(&pod("cart"));
    let line = "POST /clusters/demo/assume-role-for-pod-identity";
    let body = json!([token]).to_string();
    let answer = ask(stand.address, line, &[], body.as_bytes()).await.unwrap();
    assert_eq!((code(&answer).as_str(), answer.status), ("request_malformed", 400));
}

#[tokio::test]
async fn rejects_a_body_of_absurd_length_at_once() {
    let stand = stand(Plan::default()).await;
    let started = clock::monotonic();
    let mut connection = Connection::open(stand.address).await.unwrap();
    let line = "POST /clusters/demo/assume-role-for-pod-identity HTTP/1.1";
    let head = format!("{line}\r\nHost: auth\r\nContent-Length: 1000000000000\r\n\r\n");
    connection.send(head.as_bytes()).await.unwrap();
    let answer = connection.answer().await.unwrap();
    assert_eq!((code(&answer).as_str(), answer.status), ("request_too_large", 400));
    assert!(started.elapsed() < BODY_TIMEOUT, "the response does not wait for the body");
}
