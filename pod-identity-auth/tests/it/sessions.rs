//! Requests to STS and the resulting sessions.

use pod_identity_auth::config::SessionNaming;
use pod_identity_runtime::clock;
use serde_json::json;
use testing::wire::{Answer, ask};

use crate::test_auth::{Options, TAGGED, USER, code, pod, start_auth, with_capacity};

#[tokio::test]
async fn target_role_gets_the_external_id_of_the_service_account() {
    let auth = start_auth(Options::default()).await;
    let session = auth.session(&auth.exchange(&auth.token(&pod("far"))).await);
    assert_eq!(session.role_arn, "arn:aws:iam::444455556666:role/far");
    assert!(session.chain.iter().any(|link| link.contains("assumed-role/app/")), "{:?}", session.chain);
    assert_eq!(session.tags.value("kubernetes-service-account"), Some("far"));
    // Another service account has another external id, and no input of the request changes it.
    let token = auth.token(&pod("thief"));
    let id = "eu-west-1/111122223333/demo/shop/far";
    let body =
        json!({"token": token, "externalId": id, "ExternalId": id, "serviceAccount": "far"}).to_string();
    let line = "POST /clusters/demo/assume-role-for-pod-identity";
    let headers = [("x-external-id", id)];
    let answer = ask(auth.address, line, &headers, body.as_bytes()).await.unwrap();
    assert_eq!((code(&answer).as_str(), answer.status), ("role_trust_refused", 400));
}

#[tokio::test]
async fn session_has_six_tags_or_a_policy_without_tags() {
    let auth = start_auth(Options::default()).await;
    let cart = pod("cart");
    let session = auth.session(&auth.exchange(&auth.token(&cart)).await);
    let tags: Vec<_> = session.tags.iter().collect();
    assert_eq!(
        tags,
        [
            ("eks-cluster-arn", "arn:aws:eks:eu-west-1:111122223333:cluster/demo"),
            ("eks-cluster-name", "demo"),
            ("kubernetes-namespace", "shop"),
            ("kubernetes-pod-name", "cart-1"),
            ("kubernetes-pod-uid", cart.pod.uid.as_str()),
            ("kubernetes-service-account", "cart"),
        ]
    );
    assert_eq!((session.transitive_tag_keys.len(), session.policy), (6, None));

    let session = auth.session(&auth.exchange(&auth.token(&pod("plain"))).await);
    assert!(session.tags.is_empty() && session.transitive_tag_keys.is_empty());
    assert!(session.policy.unwrap().contains("s3:GetObject"));

    let refused = auth.exchange(&auth.token(&pod("strict"))).await;
    assert_eq!((code(&refused).as_str(), refused.status), ("role_trust_refused", 400));
    assert!(refused.text().contains("arn:aws:iam::111122223333:role/strict"));
}

#[tokio::test]
async fn stable_session_name_stays_the_same_at_renewals() {
    for (naming, same) in [(SessionNaming::Stable, true), (SessionNaming::Random, false)] {
        let auth = start_auth(Options { naming, service: with_capacity(0), ..Options::default() }).await;
        let pod = pod("cart");
        let one = auth.session(&auth.exchange(&auth.token(&pod)).await).session_name;
        let two = auth.session(&auth.exchange(&auth.token(&pod)).await).session_name;
        assert_eq!(one == two, same, "{one} {two}");
        assert!(one.starts_with("eks-demo-cart-1-"), "{one}");
        assert_eq!(one.ends_with(pod.pod.uid.as_str()), same, "{one}");
    }
}

fn lifetime(answer: &Answer) -> u64 {
    let now = clock::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    answer.json()["credentials"]["expiration"].as_u64().unwrap() - now
}

#[tokio::test]
async fn session_has_the_associations_duration_unless_chained() {
    for (principal, longest) in [(USER, 7200), (crate::test_auth::AUTH_ROLE, 3600)] {
        let auth = start_auth(Options { principal, ..Options::default() }).await;
        auth.readiness(200).await; // STS has named the principal by then
        for (service_account, seconds) in [("cart", 3600), ("long", longest)] {
            let answer = auth.exchange(&auth.token(&pod(service_account))).await;
            assert_eq!(code(&answer), "ok", "{}", answer.text());
            assert!(
                (seconds - 30..=seconds).contains(&lifetime(&answer)),
                "{service_account}: {}",
                lifetime(&answer)
            );
        }
    }
}

#[tokio::test]
async fn reports_transitive_tags_of_the_services_own_session() {
    let auth = start_auth(Options { principal: TAGGED, ..Options::default() }).await;
    auth.readiness(200).await;
    let answer = auth.exchange(&auth.token(&pod("cart"))).await;
    assert_eq!((code(&answer).as_str(), answer.status), ("caller_session_has_tags", 400));
    assert!(answer.text().contains(pod_identity_core::error::ErrorCode::CallerSessionHasTags.fix()));
    // All replicas have the same role, so an unready response would remove all of them.
    assert!(auth.readiness(200).await.contains("\ncaller_session: "));
    assert!(
        auth.get("/metrics").await.text().contains("pod_identity_condition{condition=\"caller_session\"} 0")
    );
}
