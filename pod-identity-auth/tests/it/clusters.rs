//! Many clusters, which may be hard to tell apart.

use serde_json::json;
use testing::wire::ask;

use crate::stand::{Plan, code, pod, request, stand};

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
    // With the other's key id as well.
    let header = json!({"alg": "ES256", "kid": twin.signing_key().kid()}).to_string();
    let token = demo.sign(&header, &demo.claims(&request(&pod)).to_string()).unwrap();
    assert_eq!(code(&stand.ask_in("twin", &token, &[]).await), "token_signature_invalid");
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
