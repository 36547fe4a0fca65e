//! What EKS Auth may answer, and what the pod is told of it.

use std::time::Duration;

use pod_identity_runtime::clock;
use serde_json::json;

use crate::agent::{Behaviour, check_refusal, credentials, fake_eks_auth, granted, serving, token};

async fn told(behaviour: Behaviour) -> (u16, String, String) {
    let eks_auth = fake_eks_auth(behaviour).await;
    let answer = credentials(serving(eks_auth.address).await, &token()).await;
    (answer.status, check_refusal(&answer), answer.text())
}

#[tokio::test]
async fn an_upstream_that_hangs_is_a_503_within_five_seconds() {
    let started = clock::monotonic();
    let (status, code, _) = told(Behaviour::Hangs).await;
    assert_eq!((status, code.as_str()), (503, "upstream_unavailable"));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_503() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = credentials(serving(gone).await, &token()).await;
    assert_eq!((answer.status, check_refusal(&answer).as_str()), (503, "upstream_unavailable"));
}

#[tokio::test]
async fn an_answer_for_another_service_account_gives_no_credentials() {
    testing::logs::remember();
    for (namespace, account) in
        [("default", "other"), ("other", "app"), ("app", "default"), ("default", "App")]
    {
        let (status, code, text) = told(Behaviour::Says(200, "", granted(namespace, account))).await;
        assert_eq!(status, 500, "{text}");
        assert!(["subject_mismatch", "internal"].contains(&code.as_str()), "{text}");
        assert!(!text.contains("fake-"), "{text}");
    }
    let (_, code, _) = told(Behaviour::Says(200, "", granted("shop", "app"))).await;
    assert_eq!(code, "subject_mismatch");
    assert_eq!(
        testing::logs::lines_with(&["answered for another service account", "shop/app", "ERROR"]).len(),
        1
    );
}

#[tokio::test]
async fn garbage_for_an_answer_gives_no_credentials() {
    let lacking = |member: &str| {
        let mut answer: serde_json::Value = serde_json::from_str(&granted("default", "app")).unwrap();
        answer.as_object_mut().unwrap().remove(member);
        answer.to_string()
    };
    for body in [
        String::new(),
        "<html>".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{}".to_owned(),
        lacking("subject"),
        lacking("credentials"),
        granted("default", "app").replace("fake-secret", ""),
        granted("default", "app").replace("ASIAFAKE", ""),
        granted("default", "app").replace("\"sessionToken\"", "\"session_token\""),
        granted("default", "app").replace("4102444800", "0"),
        granted("default", "app").replace("4102444800", "\"tomorrow\""),
        granted("default", "app").replace("4102444800", "1e300"),
        granted("default", "app")[..100].to_owned(),
    ] {
        let (status, code, text) = told(Behaviour::Says(200, "", body.clone())).await;
        assert!(status >= 500, "{body}: {status}");
        assert!(["internal", "upstream_unavailable"].contains(&code.as_str()), "{body}: {text}");
        assert!(!text.contains("fake-"), "{body}: {text}");
    }
}

#[tokio::test]
async fn every_exception_of_eks_auth_becomes_a_code_that_sdks_treat_rightly() {
    for (upstream, exception, status, code) in [
        (404, "ResourceNotFoundException", 404, "association_not_found"),
        (400, "ExpiredTokenException", 400, "token_expired"),
        (400, "InvalidTokenException", 400, "token_refused"),
        (400, "AccessDeniedException", 403, "access_denied"),
        (429, "ThrottlingException", 503, "throttled"),
        (503, "ServiceUnavailableException", 503, "upstream_unavailable"),
        (500, "InternalServerException", 503, "upstream_unavailable"),
        (403, "UnrecognizedClientException", 500, "caller_refused"),
        (418, "TeapotException", 503, "upstream_unavailable"),
    ] {
        let body = json!({"message": "words of AWS"}).to_string();
        let told = told(Behaviour::Says(upstream, exception, body)).await;
        assert_eq!((told.0, told.1.as_str()), (status, code), "{exception}");
        assert!(told.2.contains("words of AWS") && told.2.contains(exception), "{}", told.2);
    }
}
