//! The session cache.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pod_identity_auth::config::default_service;
use pod_identity_local::issuer::forgery;
use pod_identity_local::services::Workload;
use pod_identity_runtime::clock;
use pod_identity_runtime::shutdown::Ender;
use serde_json::{Value, json};
use testing::eventually::eventually;
use testing::logs::lines_with;
use testing::wire::{Answer, Connection, ask};
use tokio::task::JoinSet;

use crate::test_auth::{Options, TestAuth, code, pod, request, start_auth, with_capacity, write};
use crate::upstream::{DENIED, THROTTLED, TOO_LARGE, UNAVAILABLE, Upstream};

const LINE: &str = "POST /clusters/demo/assume-role-for-pod-identity";
const HOUR: Duration = Duration::from_secs(3600);

/// Starts the auth service with an STS whose sessions last `expire_after`, and the default settings of the cache.
async fn auth_with_sessions_of(expire_after: Duration) -> (TestAuth, Arc<Upstream>, Ender) {
    let service = default_service();
    auth_with_cache_settings(expire_after, service.margin, service.fresh_percent).await
}

/// The same with another margin and another fresh share of the lifetime.
async fn auth_with_cache_settings(
    expire_after: Duration,
    margin: Duration,
    fresh_percent: u8,
) -> (TestAuth, Arc<Upstream>, Ender) {
    let (upstream, url, ender) = Upstream::start(expire_after).await;
    let mut service = default_service();
    (service.margin, service.fresh_percent) = (margin, fresh_percent);
    let auth = start_auth(Options { sts_url: Some(url), service, ..Options::default() }).await;
    (auth, upstream, ender)
}

/// Waits for a response with a session. After an error, not every request leads to a call to STS.
async fn answered(auth: &TestAuth, token: &str) -> Answer {
    eventually("STS is called again", || async {
        Some(auth.exchange(token).await).filter(|answer| code(answer) == "ok")
    })
    .await
}

/// Returns the access key id of a response.
fn key(answer: &Answer) -> String {
    assert_eq!(code(answer), "ok", "{}", answer.text());
    answer.json()["credentials"]["accessKeyId"].as_str().unwrap().to_owned()
}

/// Returns the session source in the audit line.
fn source(answer: &Answer) -> String {
    let lines = lines_with(&["pod_identity_auth::audit", answer.header("x-amzn-requestid").unwrap()]);
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    line["session_source"].as_str().unwrap().to_owned()
}

/// Returns the content of the association file with a change.
fn file(auth: &TestAuth, change: impl FnOnce(&mut Value)) -> String {
    let mut file = serde_json::to_value(auth.services.associations()).unwrap();
    change(&mut file);
    file.to_string()
}

async fn gauge(auth: &TestAuth, name: &str) -> String {
    let metrics = auth.get("/metrics").await.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.to_owned()
}

async fn entries(auth: &TestAuth) -> String {
    gauge(auth, "pod_identity_session_cache_entries").await
}

/// Waits until `count` requests wait for a session.
async fn until_wait(auth: &TestAuth, count: usize) {
    eventually(&format!("{count} requests wait"), || async {
        (gauge(auth, "pod_identity_sessions_waiting").await == count.to_string()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn concurrent_requests_make_one_call_and_a_disconnected_caller_does_not_cancel_it() {
    let (auth, upstream, _ender) = auth_with_sessions_of(HOUR).await;
    let cart = pod("cart");
    let token = auth.token(&cart);
    upstream.pause();
    let mut first = Connection::open(auth.address).await.unwrap();
    let body = json!({ "token": token }).to_string();
    let head = format!("{LINE} HTTP/1.1\r\nHost: auth\r\nContent-Length: {}\r\n\r\n", body.len());
    first.send(format!("{head}{body}").as_bytes()).await.unwrap();
    eventually("STS is called", || async { (upstream.calls() == 1).then_some(()) }).await;
    drop(first);
    let herd = async {
        let mut asking = JoinSet::new();
        for _ in 0..63 {
            let (address, body) = (auth.address, body.clone());
            asking.spawn(async move { ask(address, LINE, &[], body.as_bytes()).await.unwrap() });
        }
        asking.join_all().await
    };
    let open = async {
        // The request of the disconnected caller also waits.
        until_wait(&auth, 64).await;
        upstream.resume();
    };
    let (answers, ()) = tokio::join!(herd, open);
    let keys: BTreeSet<String> = answers.iter().map(key).collect();
    assert_eq!((upstream.calls(), keys.len()), (1, 1));
    // Each request has an audit line, also that of the disconnected caller.
    let uid = cart.pod.uid.as_str();
    let lines = eventually("every request has its line", || async {
        let lines = lines_with(&["pod_identity_auth::audit", uid]);
        (lines.len() == 64).then_some(lines)
    })
    .await;
    let of = |source| {
        let member = format!(r#""session_source":"{source}""#);
        lines.iter().filter(|line| line.contains(&member)).count()
    };
    assert_eq!((of("fetched"), of("shared")), (1, 63));
    let metrics = auth.get("/metrics").await.text();
    assert!(metrics.contains(r#"pod_identity_sessions_total{source="fetched"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"pod_identity_sessions_total{source="shared"} 63"#), "{metrics}");
    assert_eq!(entries(&auth).await, "1");
}

#[tokio::test]
async fn two_pods_of_one_service_account_do_not_share_a_session() {
    let (auth, upstream, _ender) = auth_with_sessions_of(HOUR).await;
    let (one, two) = (pod("cart"), pod("cart"));
    let keys = [key(&auth.exchange(&auth.token(&one)).await), key(&auth.exchange(&auth.token(&two)).await)];
    assert_ne!(keys[0], keys[1]);
    for (key, pod) in keys.iter().zip([&one, &two]) {
        let session = upstream.sts.inspect(key).unwrap();
        assert_eq!(session.tags.value("kubernetes-pod-uid"), Some(pod.pod.uid.as_str()));
    }
    // Another token of the same pod shares the session.
    let again = auth.exchange(&auth.token(&one)).await;
    assert_eq!((key(&again), source(&again).as_str()), (keys[0].clone(), "cached"));
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn changed_association_gives_the_new_role_and_removed_one_is_refused() {
    let (auth, upstream, _ender) = auth_with_sessions_of(HOUR).await;
    let token = auth.token(&pod("cart"));
    let old = key(&auth.exchange(&token).await);
    let web = "arn:aws:iam::111122223333:role/web";
    write(&auth.file(), &file(&auth, |file| file["associations"][0]["roleArn"] = web.into()));
    let new = eventually("the new role is issued", || async {
        let key = key(&auth.exchange(&token).await);
        let role = upstream.sts.inspect(&key).unwrap().role_arn;
        // The old session is served until the file is read, and never after that.
        assert_eq!(key == old, role != web);
        (role == web).then_some(key)
    })
    .await;
    assert_eq!(key(&auth.exchange(&token).await), new);
    assert_eq!(entries(&auth).await, "1", "the session of the old association is dropped");

    // With the first association again, its old session is not served.
    write(&auth.file(), &file(&auth, |_| ()));
    eventually("the old role is issued again", || async {
        let key = key(&auth.exchange(&token).await);
        assert_ne!(key, old);
        (key != new).then_some(())
    })
    .await;

    write(&auth.file(), &file(&auth, |file| file["associations"] = json!([])));
    eventually("the association is removed", || async {
        (code(&auth.exchange(&token).await) == "association_not_found").then_some(())
    })
    .await;
    eventually("its session is dropped", || async { (entries(&auth).await == "0").then_some(()) }).await;
}

#[tokio::test]
async fn changed_region_of_a_cluster_gives_new_sessions() {
    let (auth, upstream, _ender) = auth_with_sessions_of(HOUR).await;
    let token = auth.token(&pod("cart"));
    let old = key(&auth.exchange(&token).await);
    write(&auth.file(), &file(&auth, |file| file["clusters"][0]["region"] = "eu-west-2".into()));
    eventually("the tag names the new region", || async {
        let key = key(&auth.exchange(&token).await);
        let session = upstream.sts.inspect(&key).unwrap();
        let arn = session.tags.value("eks-cluster-arn").unwrap().to_owned();
        assert_eq!(key == old, arn.contains("eu-west-1"));
        arn.contains("eu-west-2").then_some(())
    })
    .await;
}

#[tokio::test]
async fn invalid_token_never_gets_a_cached_session() {
    let (auth, upstream, _ender) = auth_with_sessions_of(HOUR).await;
    let cart = pod("cart");
    let token = auth.token(&cart);
    key(&auth.exchange(&token).await);
    let issuer = auth.services.issuer();
    let (header, claims) = (issuer.signing_key().header().to_string(), issuer.claims(&request(&cart)));
    let forged = forgery::with_signature_of(&auth.token(&pod("plain")), &header, &claims.to_string());
    assert_eq!(code(&auth.exchange(&forged).await), "token_signature_invalid");
    let mut expired = request(&cart);
    expired.expires_at = clock::now() - Duration::from_secs(1);
    expired.issued_at = clock::now() - HOUR;
    expired.not_before = expired.issued_at;
    assert_eq!(code(&auth.exchange(&issuer.mint(&expired).unwrap()).await), "token_expired");

    // The cluster has other keys now, so the token is not valid any more.
    let twin = auth.services.issuer_of(&"twin".parse().unwrap()).unwrap().jwks_uri();
    write(&auth.file(), &file(&auth, |file| file["clusters"][0]["jwksUrl"] = twin.into()));
    eventually("the token is refused", || async {
        let answer = auth.exchange(&token).await;
        (code(&answer) == "token_key_unknown").then_some(())
    })
    .await;
    assert_eq!((upstream.calls(), entries(&auth).await.as_str()), (1, "1"));
}

#[tokio::test]
async fn serves_cached_session_until_its_end_while_sts_is_down() {
    let (auth, upstream, _ender) =
        auth_with_cache_settings(Duration::from_secs(7), Duration::from_secs(1), 0).await;
    let token = auth.token(&pod("cart"));
    let first = key(&auth.exchange(&token).await);
    upstream.respond_with(Some(THROTTLED));
    let answer = auth.exchange(&token).await;
    assert_eq!((key(&answer), source(&answer).as_str()), (first.clone(), "stale"));
    upstream.respond_with(Some(UNAVAILABLE));
    let ended = eventually("the session ends", || async {
        let answer = auth.exchange(&token).await;
        if code(&answer) != "ok" {
            return Some(answer);
        }
        assert_eq!((key(&answer), source(&answer).as_str()), (first.clone(), "stale"));
        None
    })
    .await;
    assert_eq!((code(&ended).as_str(), ended.status), ("upstream_unavailable", 503));
    upstream.respond_with(None);
    let answer = answered(&auth, &token).await;
    assert_ne!(key(&answer), first);
    assert_eq!(source(&answer), "fetched");
}

#[tokio::test]
async fn serves_stale_session_while_sts_hangs_and_the_call_continues() {
    let (auth, upstream, _ender) = auth_with_cache_settings(HOUR, Duration::ZERO, 0).await;
    let token = auth.token(&pod("cart"));
    let first = key(&auth.exchange(&token).await);
    upstream.pause();
    let answer = auth.exchange(&token).await;
    assert_eq!((key(&answer), source(&answer).as_str()), (first.clone(), "stale"));
    // The next request waits for the same call.
    let opens = async {
        until_wait(&auth, 1).await;
        upstream.resume();
    };
    let (answer, ()) = tokio::join!(auth.exchange(&token), opens);
    assert_ne!(key(&answer), first);
    assert_eq!((source(&answer).as_str(), upstream.calls()), ("shared", 2));
    assert_eq!(gauge(&auth, "pod_identity_sessions_waiting").await, "0");
}

#[tokio::test]
async fn refusal_after_a_stale_session_is_returned() {
    let (auth, upstream, _ender) = auth_with_cache_settings(HOUR, Duration::ZERO, 0).await;
    let token = auth.token(&pod("cart"));
    key(&auth.exchange(&token).await);
    upstream.pause();
    assert_eq!(source(&auth.exchange(&token).await), "stale");
    let refuses = async {
        until_wait(&auth, 1).await;
        upstream.respond_with(Some(DENIED));
        upstream.resume();
    };
    let (answer, ()) = tokio::join!(auth.exchange(&token), refuses);
    assert_eq!((code(&answer).as_str(), upstream.calls()), ("role_trust_refused", 2));
}

#[tokio::test]
async fn denial_of_the_role_drops_the_cached_session() {
    let (auth, upstream, _ender) = auth_with_cache_settings(HOUR, Duration::ZERO, 0).await;
    let token = auth.token(&pod("cart"));
    let first = key(&auth.exchange(&token).await);
    upstream.respond_with(Some(DENIED));
    assert_eq!(code(&auth.exchange(&token).await), "role_trust_refused");
    assert_eq!(code(&auth.exchange(&token).await), "role_trust_refused");
    // The old session is not served when STS is unavailable later.
    upstream.respond_with(Some(UNAVAILABLE));
    eventually("STS is called again", || async {
        (code(&auth.exchange(&token).await) == "upstream_unavailable").then_some(())
    })
    .await;
    upstream.respond_with(None);
    assert_ne!(key(&answered(&auth, &token).await), first);
}

#[tokio::test]
async fn renewal_gets_a_newer_session_before_the_old_one_expires() {
    let (auth, upstream, _ender) =
        auth_with_cache_settings(Duration::from_secs(10), Duration::ZERO, 20).await;
    let token = auth.token(&pod("cart"));
    let first = key(&auth.exchange(&token).await);
    let second = eventually("a newer session is served", || async {
        let key = key(&auth.exchange(&token).await);
        (key != first).then_some(key)
    })
    .await;
    let expiration = |key: &str| upstream.sts.inspect(key).unwrap().expiration;
    assert!(expiration(&second) > expiration(&first));
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn throttling_of_a_target_role_does_not_slow_down_nodes() {
    let (auth, upstream, _ender) = auth_with_sessions_of(HOUR).await;
    let token = auth.token(&pod("far"));
    upstream.respond_for_role("far", THROTTLED);
    let answer = auth.exchange(&token).await;
    assert_eq!((code(&answer).as_str(), answer.status), ("upstream_unavailable", 503));
    assert!(answer.text().contains("role/far: Throttling: Rate exceeded"), "{}", answer.text());
    // The first call uses the service's own credentials, and all pods share their quota.
    upstream.respond_for_role("app", THROTTLED);
    eventually("STS is called again", || async {
        (code(&auth.exchange(&token).await) == "throttled").then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_request_makes_a_call_without_a_cache() {
    let (upstream, url, _ender) = Upstream::start(HOUR).await;
    let auth =
        start_auth(Options { sts_url: Some(url), service: with_capacity(0), ..Options::default() }).await;
    let cart: Workload = pod("cart");
    let answers = [auth.exchange(&auth.token(&cart)).await, auth.exchange(&auth.token(&cart)).await];
    assert_ne!(key(&answers[0]), key(&answers[1]));
    assert_eq!(answers.each_ref().map(source), ["fetched", "fetched"]);
    assert_eq!(upstream.calls(), 2);
    assert!(!auth.get("/metrics").await.text().contains("session_cache_entries"));
}

#[tokio::test]
async fn warns_about_too_large_sessions_and_reports_their_sizes() {
    let (auth, upstream, _ender) = auth_with_sessions_of(HOUR).await;
    upstream.respond_with(Some(TOO_LARGE));
    let answer = auth.exchange(&auth.token(&pod("cart"))).await;
    assert_eq!(code(&answer), "session_refused");
    for words in ["consumes 131% of allotted space", "by estimate: tags ", "policy 0 characters"] {
        assert!(answer.text().contains(words), "{words} is not in {}", answer.text());
    }
    let long_name = "a".repeat(250);
    let long = |file: &mut Value| {
        file["associations"][0]["serviceAccount"] = long_name.clone().into();
        file["associations"][0]["associationId"] = "a-muchtoolong".into();
    };
    write(&auth.file(), &file(&auth, long));
    let warned = eventually("a warning is logged", || async {
        lines_with(&["STS will likely refuse", "a-muchtoolong"]).pop()
    })
    .await;
    assert!(warned.contains("% by estimate"), "{warned}");
    assert!(lines_with(&["STS will likely refuse"]).iter().all(|line| line.contains("a-muchtoolong")));
}

#[tokio::test]
async fn refuses_sessions_that_arrive_expired_with_few_calls() {
    // As if this host's clock were an hour ahead of STS's.
    for capacity in [default_service().capacity, 0] {
        let (upstream, url, _ender) = Upstream::start(Duration::ZERO).await;
        let service = with_capacity(capacity);
        let auth = start_auth(Options { sts_url: Some(url), service, ..Options::default() }).await;
        let token = auth.token(&pod("cart"));
        for _ in 0..50 {
            let answer = auth.exchange(&token).await;
            assert_eq!((code(&answer).as_str(), answer.status), ("clock_ahead", 503));
            assert!(answer.text().contains("this host's clock is at 20"), "{}", answer.text());
        }
        assert!(capacity == 0 || upstream.calls() <= 4, "{} calls", upstream.calls());
    }
}
