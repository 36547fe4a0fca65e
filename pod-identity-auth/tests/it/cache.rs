//! The session cache.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pod_identity_auth::config::default_service;
use pod_identity_local::issuer::forgery;
use pod_identity_local::laptop::Workload;
use pod_identity_runtime::clock;
use pod_identity_runtime::shutdown::Ender;
use serde_json::{Value, json};
use testing::eventually::eventually;
use testing::logs::lines_with;
use testing::wire::{Answer, Connection, ask};
use tokio::task::JoinSet;

use crate::stand::{Plan, Stand, code, pod, request, stand, with_capacity, write};
use crate::upstream::{AWAY, DENIED, THROTTLED, TOO_LARGE, Upstream};

const LINE: &str = "POST /clusters/demo/assume-role-for-pod-identity";
const HOUR: Duration = Duration::from_secs(3600);

/// Starts the auth service with an STS whose sessions last `expire_after`, and the default settings of the cache.
async fn stand_before(expire_after: Duration) -> (Stand, Arc<Upstream>, Ender) {
    let service = default_service();
    stand_with(expire_after, service.margin, service.fresh_percent).await
}

/// The same with another margin and another fresh share of the lifetime.
async fn stand_with(
    expire_after: Duration,
    margin: Duration,
    fresh_percent: u8,
) -> (Stand, Arc<Upstream>, Ender) {
    let (upstream, url, ender) = Upstream::start(expire_after).await;
    let mut service = default_service();
    (service.margin, service.fresh_percent) = (margin, fresh_percent);
    let stand = stand(Plan { sts_url: Some(url), service, ..Plan::default() }).await;
    (stand, upstream, ender)
}

/// Waits for a response with a session. After an error, not every request leads to a call to STS.
async fn answered(stand: &Stand, token: &str) -> Answer {
    eventually("STS is called again", || async {
        Some(stand.ask(token).await).filter(|answer| code(answer) == "ok")
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
fn file(stand: &Stand, change: impl FnOnce(&mut Value)) -> String {
    let mut file = serde_json::to_value(stand.laptop.associations()).unwrap();
    change(&mut file);
    file.to_string()
}

async fn gauge(stand: &Stand, name: &str) -> String {
    let metrics = stand.get("/metrics").await.text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.to_owned()
}

async fn entries(stand: &Stand) -> String {
    gauge(stand, "pod_identity_session_cache_entries").await
}

/// Waits until `count` requests wait for a session.
async fn until_wait(stand: &Stand, count: usize) {
    eventually(&format!("{count} requests wait"), || async {
        (gauge(stand, "pod_identity_sessions_waiting").await == count.to_string()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_herd_is_one_call_and_a_caller_that_hangs_up_cancels_nothing() {
    let (stand, upstream, _ender) = stand_before(HOUR).await;
    let cart = pod("cart");
    let token = stand.token(&cart);
    upstream.open(false);
    let mut first = Connection::open(stand.address).await.unwrap();
    let body = json!({ "token": token }).to_string();
    let head = format!("{LINE} HTTP/1.1\r\nHost: auth\r\nContent-Length: {}\r\n\r\n", body.len());
    first.send(format!("{head}{body}").as_bytes()).await.unwrap();
    eventually("STS is called", || async { (upstream.calls() == 1).then_some(()) }).await;
    drop(first);
    let herd = async {
        let mut asking = JoinSet::new();
        for _ in 0..63 {
            let (address, body) = (stand.address, body.clone());
            asking.spawn(async move { ask(address, LINE, &[], body.as_bytes()).await.unwrap() });
        }
        asking.join_all().await
    };
    let open = async {
        // The request of the disconnected caller also waits.
        until_wait(&stand, 64).await;
        upstream.open(true);
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
    let metrics = stand.get("/metrics").await.text();
    assert!(metrics.contains(r#"pod_identity_sessions_total{source="fetched"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"pod_identity_sessions_total{source="shared"} 63"#), "{metrics}");
    assert_eq!(entries(&stand).await, "1");
}

#[tokio::test]
async fn two_pods_of_one_account_do_not_share_and_their_tags_differ() {
    let (stand, upstream, _ender) = stand_before(HOUR).await;
    let (one, two) = (pod("cart"), pod("cart"));
    let keys = [key(&stand.ask(&stand.token(&one)).await), key(&stand.ask(&stand.token(&two)).await)];
    assert_ne!(keys[0], keys[1]);
    for (key, pod) in keys.iter().zip([&one, &two]) {
        let session = upstream.sts.inspect(key).unwrap();
        assert_eq!(session.tags.value("kubernetes-pod-uid"), Some(pod.pod.uid.as_str()));
    }
    // Another token of the same pod shares the session.
    let again = stand.ask(&stand.token(&one)).await;
    assert_eq!((key(&again), source(&again).as_str()), (keys[0].clone(), "cached"));
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_changed_association_is_answered_from_the_new_role_and_a_removed_one_not_at_all() {
    let (stand, upstream, _ender) = stand_before(HOUR).await;
    let token = stand.token(&pod("cart"));
    let old = key(&stand.ask(&token).await);
    let web = "arn:aws:iam::111122223333:role/web";
    write(&stand.file(), &file(&stand, |file| file["associations"][0]["roleArn"] = web.into()));
    let new = eventually("the new role is issued", || async {
        let key = key(&stand.ask(&token).await);
        let role = upstream.sts.inspect(&key).unwrap().role_arn;
        // The old session is served until the file is read, and never after that.
        assert_eq!(key == old, role != web);
        (role == web).then_some(key)
    })
    .await;
    assert_eq!(key(&stand.ask(&token).await), new);
    assert_eq!(entries(&stand).await, "1", "the session of the old association is dropped");

    // With the first association again, its old session is not served.
    write(&stand.file(), &file(&stand, |_| ()));
    eventually("the old role is issued again", || async {
        let key = key(&stand.ask(&token).await);
        assert_ne!(key, old);
        (key != new).then_some(())
    })
    .await;

    write(&stand.file(), &file(&stand, |file| file["associations"] = json!([])));
    eventually("the association is removed", || async {
        (code(&stand.ask(&token).await) == "association_not_found").then_some(())
    })
    .await;
    eventually("its session is dropped", || async { (entries(&stand).await == "0").then_some(()) }).await;
}

#[tokio::test]
async fn a_cluster_in_another_region_has_sessions_of_its_own() {
    let (stand, upstream, _ender) = stand_before(HOUR).await;
    let token = stand.token(&pod("cart"));
    let old = key(&stand.ask(&token).await);
    write(&stand.file(), &file(&stand, |file| file["clusters"][0]["region"] = "eu-west-2".into()));
    eventually("the tag names the new region", || async {
        let key = key(&stand.ask(&token).await);
        let session = upstream.sts.inspect(&key).unwrap();
        let arn = session.tags.value("eks-cluster-arn").unwrap().to_owned();
        assert_eq!(key == old, arn.contains("eu-west-1"));
        arn.contains("eu-west-2").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_not_a_good_token_never_reaches_a_session_that_is_there() {
    let (stand, upstream, _ender) = stand_before(HOUR).await;
    let cart = pod("cart");
    let token = stand.token(&cart);
    key(&stand.ask(&token).await);
    let issuer = stand.laptop.issuer();
    let (header, claims) = (issuer.signing_key().header().to_string(), issuer.claims(&request(&cart)));
    let forged = forgery::with_signature_of(&stand.token(&pod("plain")), &header, &claims.to_string());
    assert_eq!(code(&stand.ask(&forged).await), "token_signature_invalid");
    let mut expired = request(&cart);
    expired.expires_at = clock::now() - Duration::from_secs(1);
    expired.issued_at = clock::now() - HOUR;
    expired.not_before = expired.issued_at;
    assert_eq!(code(&stand.ask(&issuer.mint(&expired).unwrap()).await), "token_expired");

    // The cluster has other keys now, so the token is not valid any more.
    let twin = stand.laptop.issuer_of(&"twin".parse().unwrap()).unwrap().jwks_uri();
    write(&stand.file(), &file(&stand, |file| file["clusters"][0]["jwksUrl"] = twin.into()));
    eventually("the token is refused", || async {
        let answer = stand.ask(&token).await;
        (code(&answer) == "token_key_unknown").then_some(())
    })
    .await;
    assert_eq!((upstream.calls(), entries(&stand).await.as_str()), (1, "1"));
}

#[tokio::test]
async fn while_sts_is_away_a_session_is_served_to_its_end_and_then_the_error() {
    let (stand, upstream, _ender) = stand_with(Duration::from_secs(7), Duration::from_secs(1), 0).await;
    let token = stand.token(&pod("cart"));
    let first = key(&stand.ask(&token).await);
    upstream.says(Some(THROTTLED));
    let answer = stand.ask(&token).await;
    assert_eq!((key(&answer), source(&answer).as_str()), (first.clone(), "stale"));
    upstream.says(Some(AWAY));
    let ended = eventually("the session ends", || async {
        let answer = stand.ask(&token).await;
        if code(&answer) != "ok" {
            return Some(answer);
        }
        assert_eq!((key(&answer), source(&answer).as_str()), (first.clone(), "stale"));
        None
    })
    .await;
    assert_eq!((code(&ended).as_str(), ended.status), ("upstream_unavailable", 503));
    upstream.says(None);
    let answer = answered(&stand, &token).await;
    assert_ne!(key(&answer), first);
    assert_eq!(source(&answer), "fetched");
}

#[tokio::test]
async fn while_sts_hangs_a_session_that_still_holds_is_served_and_the_call_goes_on() {
    let (stand, upstream, _ender) = stand_with(HOUR, Duration::ZERO, 0).await;
    let token = stand.token(&pod("cart"));
    let first = key(&stand.ask(&token).await);
    upstream.open(false);
    let answer = stand.ask(&token).await;
    assert_eq!((key(&answer), source(&answer).as_str()), (first.clone(), "stale"));
    // The next request waits for the same call.
    let opens = async {
        until_wait(&stand, 1).await;
        upstream.open(true);
    };
    let (answer, ()) = tokio::join!(stand.ask(&token), opens);
    assert_ne!(key(&answer), first);
    assert_eq!((source(&answer).as_str(), upstream.calls()), ("shared", 2));
    assert_eq!(gauge(&stand, "pod_identity_sessions_waiting").await, "0");
}

#[tokio::test]
async fn a_refusal_after_a_stale_session_was_served_is_not_papered_over() {
    let (stand, upstream, _ender) = stand_with(HOUR, Duration::ZERO, 0).await;
    let token = stand.token(&pod("cart"));
    key(&stand.ask(&token).await);
    upstream.open(false);
    assert_eq!(source(&stand.ask(&token).await), "stale");
    let refuses = async {
        until_wait(&stand, 1).await;
        upstream.says(Some(DENIED));
        upstream.open(true);
    };
    let (answer, ()) = tokio::join!(stand.ask(&token), refuses);
    assert_eq!((code(&answer).as_str(), upstream.calls()), ("role_trust_refused", 2));
}

#[tokio::test]
async fn a_role_that_says_no_is_not_papered_over() {
    let (stand, upstream, _ender) = stand_with(HOUR, Duration::ZERO, 0).await;
    let token = stand.token(&pod("cart"));
    let first = key(&stand.ask(&token).await);
    upstream.says(Some(DENIED));
    assert_eq!(code(&stand.ask(&token).await), "role_trust_refused");
    assert_eq!(code(&stand.ask(&token).await), "role_trust_refused");
    // The old session is not served when STS is unavailable later.
    upstream.says(Some(AWAY));
    eventually("STS is called again", || async {
        (code(&stand.ask(&token).await) == "upstream_unavailable").then_some(())
    })
    .await;
    upstream.says(None);
    assert_ne!(key(&answered(&stand, &token).await), first);
}

#[tokio::test]
async fn a_renewal_gets_a_newer_session_while_the_old_one_still_holds() {
    let (stand, upstream, _ender) = stand_with(Duration::from_secs(10), Duration::ZERO, 20).await;
    let token = stand.token(&pod("cart"));
    let first = key(&stand.ask(&token).await);
    let second = eventually("a newer session is served", || async {
        let key = key(&stand.ask(&token).await);
        (key != first).then_some(key)
    })
    .await;
    let expiration = |key: &str| upstream.sts.inspect(key).unwrap().expiration;
    assert!(expiration(&second) > expiration(&first));
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn throttling_of_a_target_role_is_no_reason_for_a_node_to_slow_down() {
    let (stand, upstream, _ender) = stand_before(HOUR).await;
    let token = stand.token(&pod("far"));
    upstream.says_of("far", THROTTLED);
    let answer = stand.ask(&token).await;
    assert_eq!((code(&answer).as_str(), answer.status), ("upstream_unavailable", 503));
    assert!(answer.text().contains("role/far: Throttling: Rate exceeded"), "{}", answer.text());
    // The first call uses the service's own credentials, and all pods share their quota.
    upstream.says_of("app", THROTTLED);
    eventually("STS is called again", || async {
        (code(&stand.ask(&token).await) == "throttled").then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_cache_every_request_is_a_call() {
    let (upstream, url, _ender) = Upstream::start(HOUR).await;
    let stand = stand(Plan { sts_url: Some(url), service: with_capacity(0), ..Plan::default() }).await;
    let cart: Workload = pod("cart");
    let answers = [stand.ask(&stand.token(&cart)).await, stand.ask(&stand.token(&cart)).await];
    assert_ne!(key(&answers[0]), key(&answers[1]));
    assert_eq!(answers.each_ref().map(source), ["fetched", "fetched"]);
    assert_eq!(upstream.calls(), 2);
    assert!(!stand.get("/metrics").await.text().contains("session_cache_entries"));
}

#[tokio::test]
async fn a_session_that_is_too_large_is_foretold_and_its_refusal_names_the_sizes() {
    let (stand, upstream, _ender) = stand_before(HOUR).await;
    upstream.says(Some(TOO_LARGE));
    let answer = stand.ask(&stand.token(&pod("cart"))).await;
    assert_eq!(code(&answer), "session_refused");
    for words in ["consumes 131% of allotted space", "by estimate: tags ", "policy 0 characters"] {
        assert!(answer.text().contains(words), "{words} is not in {}", answer.text());
    }
    let long_name = "a".repeat(250);
    let long = |file: &mut Value| {
        file["associations"][0]["serviceAccount"] = long_name.clone().into();
        file["associations"][0]["associationId"] = "a-muchtoolong".into();
    };
    write(&stand.file(), &file(&stand, long));
    let warned = eventually("a warning is logged", || async {
        lines_with(&["STS will likely refuse", "a-muchtoolong"]).pop()
    })
    .await;
    assert!(warned.contains("% by estimate"), "{warned}");
    assert!(lines_with(&["STS will likely refuse"]).iter().all(|line| line.contains("a-muchtoolong")));
}

#[tokio::test]
async fn sessions_that_have_expired_when_they_arrive_are_refused_and_few_calls() {
    // As if this host's clock were an hour ahead of STS's.
    for capacity in [default_service().capacity, 0] {
        let (upstream, url, _ender) = Upstream::start(Duration::ZERO).await;
        let service = with_capacity(capacity);
        let stand = stand(Plan { sts_url: Some(url), service, ..Plan::default() }).await;
        let token = stand.token(&pod("cart"));
        for _ in 0..50 {
            let answer = stand.ask(&token).await;
            assert_eq!((code(&answer).as_str(), answer.status), ("clock_ahead", 503));
            assert!(answer.text().contains("this host's clock says 20"), "{}", answer.text());
        }
        assert!(capacity == 0 || upstream.calls() <= 4, "{} calls", upstream.calls());
    }
}
