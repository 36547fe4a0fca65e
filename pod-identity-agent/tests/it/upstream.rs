//! Responses of EKS Auth and the resulting responses to pods.

use std::time::{Duration, SystemTime};

use pod_identity_agent::app::App;
use pod_identity_agent::config::Config;
use pod_identity_core::service::Clock;
use pod_identity_runtime::clock;
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::json;
use testing::wire::{Answer, ask};

use crate::agent::{
    Behaviour, LOOPBACK, agent, check_error, config, credentials, fake_eks_auth, granted, serving, token,
};

async fn response_to(behaviour: Behaviour) -> (u16, String, String) {
    let eks_auth = fake_eks_auth(behaviour).await;
    let answer = credentials(serving(eks_auth.address).await, &token()).await;
    (answer.status, check_error(&answer), answer.text())
}

#[tokio::test]
async fn hanging_upstream_gives_503_within_five_seconds() {
    let started = clock::monotonic();
    let eks_auth = fake_eks_auth(Behaviour::Hangs).await;
    let agent = agent(eks_auth.address, &[LOOPBACK]).await;
    let (address, admin) = (agent.addresses()[0], agent.admin_addresses()[0]);
    tokio::spawn(agent.run(Shutdown::never()));
    let answer = credentials(address, &token()).await;
    assert_eq!((answer.status, check_error(&answer).as_str()), (503, "upstream_unavailable"));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // The first attempt was cancelled and counted, and the second one is in flight.
    assert_eq!(eks_auth.calls(), 2);
    let metrics = ask(admin, "GET /metrics", &[], b"").await.unwrap().text();
    let cancelled = "pod_identity_eks_auth_attempts_total{code=\"upstream_unavailable\"} 1\n";
    assert!(metrics.contains(cancelled), "{metrics}");
}

#[tokio::test]
async fn cancels_a_response_without_an_end() {
    let eks_auth = testing::wire::endless("application/json").await.unwrap();
    let before = resident_kib();
    let answer = credentials(serving(eks_auth).await, &token()).await;
    assert_eq!((answer.status, check_error(&answer).as_str()), (503, "upstream_unavailable"));
    assert!(resident_kib() < before + 50_000, "{} KiB before, {} now", before, resident_kib());
}

/// Resident memory of this process in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

#[tokio::test]
async fn unreachable_upstream_gives_503() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = credentials(serving(gone).await, &token()).await;
    assert_eq!((answer.status, check_error(&answer).as_str()), (503, "upstream_unavailable"));
}

#[tokio::test]
async fn refuses_credentials_of_another_service_account() {
    testing::logs::capture();
    for (namespace, service_account) in
        [("default", "other"), ("other", "app"), ("app", "default"), ("default", "App")]
    {
        let (status, code, text) =
            response_to(Behaviour::Responds(200, "", granted(namespace, service_account))).await;
        assert_eq!(status, 500, "{text}");
        assert!(["subject_mismatch", "internal"].contains(&code.as_str()), "{text}");
        assert!(!text.contains("fake-"), "{text}");
    }
    let (_, code, _) = response_to(Behaviour::Responds(200, "", granted("shop", "app"))).await;
    assert_eq!(code, "subject_mismatch");
    let lines = testing::logs::lines_with(&["subject_mismatch", "shop/app", "default/app-1", "ERROR"]);
    assert_eq!(lines.len(), 1);
}

#[tokio::test]
async fn refuses_malformed_responses() {
    let without = |member: &str| {
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
        without("subject"),
        without("credentials"),
        granted("default", "app").replace("fake-secret", ""),
        granted("default", "app").replace("ASIAFAKE", ""),
        granted("default", "app").replace("\"sessionToken\"", "\"session_token\""),
        granted("default", "app").replace("4102444800", "0"),
        granted("default", "app").replace("4102444800", "\"tomorrow\""),
        granted("default", "app").replace("4102444800", "1e300"),
        granted("default", "app")[..100].to_owned(),
    ] {
        let (status, code, text) = response_to(Behaviour::Responds(200, "", body.clone())).await;
        assert!(status >= 500, "{body}: {status}");
        assert!(["internal", "upstream_unavailable"].contains(&code.as_str()), "{body}: {text}");
        assert!(!text.contains("fake-"), "{body}: {text}");
    }
}

#[tokio::test]
async fn maps_every_exception_of_eks_auth_to_code_and_status() {
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
        let body = json!({"message": "message of AWS"}).to_string();
        let response_to = response_to(Behaviour::Responds(upstream, exception, body)).await;
        assert_eq!((response_to.0, response_to.1.as_str()), (status, code), "{exception}");
        assert!(
            response_to.2.contains("message of AWS") && response_to.2.contains(exception),
            "{}",
            response_to.2
        );
    }
}

/// Returns the number of calls of one request, and its response.
async fn calls(behaviour: Behaviour) -> (usize, Answer) {
    let eks_auth = fake_eks_auth(behaviour).await;
    let answer = credentials(serving(eks_auth.address).await, &token()).await;
    (eks_auth.calls(), answer)
}

#[tokio::test]
async fn attempts_retryable_errors_three_times_and_others_once() {
    for (status, exception, attempts) in [
        (500, "InternalServerException", 3),
        (502, "", 3),
        (504, "", 3),
        (503, "ServiceUnavailableException", 3),
        (429, "ThrottlingException", 3),
        (400, "ThrottlingException", 3),
        (404, "ResourceNotFoundException", 1),
        (400, "AccessDeniedException", 1),
        (400, "InvalidTokenException", 1),
        (418, "TeapotException", 1),
    ] {
        let (calls, answer) = calls(Behaviour::Responds(status, exception, "{}".to_owned())).await;
        assert_eq!(calls, attempts, "{status} {exception}: {answer:?}");
    }
}

#[tokio::test]
async fn does_not_repeat_errors_of_pod_identity_auth() {
    for (status, exception, code) in [
        (429, "ThrottlingException", "throttled"),
        (503, "ServiceUnavailableException", "upstream_unavailable"),
        (503, "ServiceUnavailableException", "token_key_unknown"),
        (500, "InternalServerException", "internal"),
    ] {
        let own = Behaviour::RespondsAsPodIdentityAuth(status, exception, code);
        let (calls, answer) = calls(own).await;
        assert_eq!((calls, check_error(&answer).as_str()), (1, code));
        assert_eq!(answer.header("retry-after"), Some("7"), "{code}: the pause of EKS Auth");
    }
}

#[tokio::test]
async fn only_throttling_limits_the_rate_of_other_calls() {
    for (code, limited) in
        [("throttled", true), ("token_key_unknown", false), ("upstream_unavailable", false)]
    {
        let eks_auth =
            fake_eks_auth(Behaviour::RespondsAsPodIdentityAuth(503, "ServiceUnavailableException", code))
                .await;
        let agent = agent(eks_auth.address, &[LOOPBACK]).await;
        let (address, admin) = (agent.addresses()[0], agent.admin_addresses()[0]);
        tokio::spawn(agent.run(Shutdown::never()));
        credentials(address, &token()).await;
        let metrics = ask(admin, "GET /metrics", &[], b"").await.unwrap().text();
        assert_eq!(metrics.contains("pod_identity_eks_auth_rate_limit "), limited, "{code}:\n{metrics}");
        for line in [
            format!("pod_identity_eks_auth_attempts_total{{code=\"{code}\"}} 1\n"),
            "pod_identity_eks_auth_in_flight 0\n".to_owned(),
            "pod_identity_eks_auth_waiting 0\n".to_owned(),
            "pod_identity_eks_auth_crowded_total 0\n".to_owned(),
        ] {
            assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
        }
    }
}

#[tokio::test]
async fn makes_no_call_before_retry_after() {
    // EKS Auth requests a pause of a second after the first call. The request of a second pod waits and succeeds.
    let eks_auth = fake_eks_auth(Behaviour::RespondsFirstWith(429, "1", granted("default", "app"))).await;
    let agent = serving(eks_auth.address).await;
    let first = tokio::spawn({
        let token = token();
        async move { credentials(agent, &token).await.status }
    });
    eks_auth.arrived.notified().await;
    let paused_at = clock::monotonic();
    let second = credentials(agent, &token()).await.status;
    assert!(paused_at.elapsed() >= Duration::from_millis(900), "{:?}", paused_at.elapsed());
    assert_eq!((first.await.unwrap(), second), (200, 200));
    assert_eq!(eks_auth.calls(), 3);
}

#[tokio::test]
async fn waiting_request_gets_throttled_with_the_remaining_pause() {
    // The call waits for seven seconds, but the request does not.
    let eks_auth = fake_eks_auth(Behaviour::RespondsFirstWith(429, "7", granted("default", "app"))).await;
    let answer = credentials(serving(eks_auth.address).await, &token()).await;
    assert_eq!((answer.status, check_error(&answer).as_str()), (503, "throttled"));
    assert_eq!(answer.header("retry-after"), Some("3"), "the remaining pause in whole seconds");
    assert_eq!(eks_auth.calls(), 1);
}

#[tokio::test]
async fn long_pause_gives_throttled_at_once_with_retry_after() {
    let eks_auth = fake_eks_auth(Behaviour::RespondsFirstWith(429, "25", granted("default", "app"))).await;
    let agent = serving(eks_auth.address).await;
    for _ in 0..3 {
        let answer = credentials(agent, &token()).await;
        assert_eq!((answer.status, check_error(&answer).as_str()), (503, "throttled"));
        let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=25).contains(&retry_after) && retry_after > 2, "{answer:?}");
    }
    assert_eq!(eks_auth.calls(), 1);
}

#[tokio::test]
async fn refuses_expired_credentials_with_the_time_of_the_clock_and_few_calls() {
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    // An hour after the expiry of the issued credentials.
    let (hand, clock) = Clock::manual(SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800 + 3600));
    let agent = App::bind(Config { clock, ..config(eks_auth.address, &[LOOPBACK]) }).await.unwrap();
    let address = agent.addresses()[0];
    tokio::spawn(agent.run(Shutdown::never()));
    let token = token();
    let refused = async |requests: usize| {
        for _ in 0..requests {
            let answer = credentials(address, &token).await;
            assert_eq!((answer.status, check_error(&answer).as_str()), (503, "clock_ahead"));
            let times = "the credentials expired at 2100-01-01T00:00:00Z, and this host's clock is at 2100-01-01T01:00:";
            assert!(answer.text().contains(times), "{}", answer.text());
            assert!(!answer.text().contains("fake-"), "{}", answer.text());
        }
    };
    refused(148).await;
    assert_eq!(eks_auth.calls(), 1);
    // The pauses between calls are one second, two seconds, and so on.
    hand.advance(Duration::from_secs(2));
    refused(148).await;
    assert_eq!(eks_auth.calls(), 2);
}

#[tokio::test]
async fn polling_with_an_unverified_token_makes_few_calls_while_eks_auth_is_down() {
    let away = Behaviour::Responds(503, "ServiceUnavailableException", "{}".to_owned());
    let eks_auth = fake_eks_auth(away).await;
    let (agent, token) = (serving(eks_auth.address).await, token());
    let started = clock::monotonic();
    let mut polls = 0;
    while started.elapsed() < Duration::from_secs(2) {
        let answer = credentials(agent, &token).await;
        assert_eq!(answer.status, 503, "{}", answer.text());
        polls += 1;
    }
    // Each of at most three fetches makes three attempts.
    assert!(polls > 20 && eks_auth.calls() <= 9, "{polls} polls, {} calls", eks_auth.calls());
}

#[tokio::test]
async fn refuses_responses_with_arrays_in_place_of_objects() {
    let whole: serde_json::Value = serde_json::from_str(&granted("default", "app")).unwrap();
    for member in ["", "/subject", "/credentials", "/assumedRoleUser"] {
        let mut answer = whole.clone();
        let object = answer.pointer_mut(member).unwrap();
        *object = object.as_object().unwrap().values().cloned().collect();
        let (status, code, text) = response_to(Behaviour::Responds(200, "", answer.to_string())).await;
        assert_eq!((status, code.as_str()), (503, "upstream_unavailable"), "{member}: {text}");
        assert!(!text.contains("fake-"), "{text}");
    }
}
