//! Limits of bodies and connections: sizes, times and memory.

use std::time::Duration;

use serde_json::json;
use testing::eventually::eventually;

use crate::webhook::{Client, Decision, JSON, Tls, Webhook, connect, pod, review};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn injects_a_pod_of_3_mib_and_refuses_a_body_over_8_mib() {
    let webhook = Webhook::start(&[]).await;
    let mut large = pod("cart");
    large["metadata"]["annotations"]["filler"] = json!("x".repeat(3 * MIB));
    let decision = webhook.review("/mutate", &large).await;
    assert!(decision.allowed && !decision.paths.is_empty());

    // With a Content-Length.
    let mut connection = webhook.connect().await.unwrap();
    let length = (9 * MIB).to_string();
    let headers = [("Host", "webhook"), JSON, ("Content-Length", length.as_str())];
    let answer = connection.ask("POST /mutate", &headers, b"").await.unwrap();
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.text().contains("8388608"), "{}", answer.text());

    // Without one. The connection may be closed before the body is sent.
    let mut connection = webhook.connect().await.unwrap();
    let head = "POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    connection.send(head.as_bytes()).await.unwrap();
    let chunk = [format!("{MIB:x}\r\n").as_bytes(), &vec![b' '; MIB], b"\r\n"].concat();
    for _ in 0..9 {
        if connection.send(&chunk).await.is_err() {
            break;
        }
    }
    if let Ok(answer) = connection.answer().await {
        assert_eq!(answer.status, 413);
    }
    eventually("both bodies are counted", || async {
        let too_large = r#"pod_identity_http_responses_total{status="413",code="too_large"}"#;
        (webhook.metric(too_large).await == Some(2.0)).then_some(())
    })
    .await;
    assert!(webhook.review("/mutate", &pod("cart")).await.allowed);
}

/// Returns a review with a filler of this size, and the head of its request with `Expect: 100-continue`.
fn large(filler: usize) -> (Vec<u8>, String) {
    let mut pod = pod("cart");
    pod["metadata"]["annotations"]["filler"] = json!("x".repeat(filler));
    let body = review(&pod);
    let head = format!(
        "POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (body, head)
}

/// Opens connections and sends the first byte of each body.
async fn begin(webhook: &Webhook, head: &str, count: usize) -> Vec<Tls> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = webhook.connect().await.unwrap();
        connection.send(head.as_bytes()).await.unwrap();
        assert_eq!(connection.answer().await.unwrap().status, 100);
        connection.send(b"{").await.unwrap();
        connections.push(connection);
    }
    connections
}

#[tokio::test]
async fn large_bodies_share_the_memory_of_their_peer_and_small_bodies_do_not_wait() {
    let webhook = Webhook::start(&[]).await;
    let (body, head) = large(3 * MIB);
    let mut connections = begin(&webhook, &head, 2).await;
    let mut third = webhook.connect().await.unwrap();
    third.send(head.as_bytes()).await.unwrap();
    assert!(webhook.review("/mutate", &pod("cart")).await.allowed);
    let early = tokio::time::timeout(Duration::from_millis(300), third.answer()).await;
    assert!(early.is_err(), "9 MiB of one peer are read at once: {early:?}");
    let mut first = connections.remove(0);
    first.send(&body[1..]).await.unwrap();
    assert!(Decision::of(&first.answer().await.unwrap()).allowed);
    // The timeout above cancelled a read of this client, not the request.
    assert_eq!(third.answer().await.unwrap().status, 100);
    third.send(&body).await.unwrap();
    assert!(Decision::of(&third.answer().await.unwrap()).allowed);
}

#[cfg(target_os = "linux")] // every address of 127.0.0.0/8 is local
#[tokio::test]
async fn forty_slow_bodies_of_one_peer_delay_no_review_of_another() {
    let webhook = Webhook::start(&[]).await;
    // Together they need ten times the memory of one peer.
    let (_, head) = large(2 * MIB - 4096);
    let mut slow = begin(&webhook, &head, 4).await;
    for _ in 4..40 {
        let mut connection = webhook.connect().await.unwrap();
        connection.send(head.as_bytes()).await.unwrap();
        slow.push(connection);
    }
    let api_server = Client { from: Some([127, 0, 0, 2].into()), ..Client::default() };
    let (body, head) = large(70 * 1024);
    for _ in 0..3 {
        let mut connection = webhook.connect_as(&api_server).await.unwrap();
        connection.send(head.as_bytes()).await.unwrap();
        let answer = async {
            assert_eq!(connection.answer().await.unwrap().status, 100);
            connection.send(&body).await.unwrap();
            connection.answer().await.unwrap()
        };
        let answer =
            tokio::time::timeout(Duration::from_secs(2), answer).await.expect("no wait for another peer");
        assert!(Decision::of(&answer).allowed);
    }
    drop(slow);
}

#[tokio::test]
async fn a_body_times_out_after_30_s() {
    let webhook = Webhook::start(&[]).await;
    let mut slow = webhook.connect().await.unwrap();
    let head = "POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n";
    slow.send(head.as_bytes()).await.unwrap();
    assert_eq!(slow.answer().await.unwrap().status, 100); // the body's time begins
    slow.send(b"{").await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(29)).await;
    tokio::time::resume();
    let early = tokio::time::timeout(Duration::from_millis(200), slow.answer()).await;
    assert!(early.is_err(), "the body timed out too early: {early:?}");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    assert_eq!(slow.answer().await.unwrap().status, 408);
}

#[tokio::test]
async fn a_slow_large_body_releases_its_memory_after_5_s() {
    let webhook = Webhook::start(&[]).await;
    let (body, head) = large(3 * MIB);
    let mut slow = begin(&webhook, &head, 2).await;
    let mut api_server = webhook.connect().await.unwrap();
    api_server.send(head.as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), api_server.answer()).await;
    assert!(early.is_err(), "9 MiB of one peer are read at once: {early:?}");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    for connection in &mut slow {
        let answer = connection.answer().await.unwrap();
        assert_eq!(answer.status, 408);
        assert!(answer.text().contains("within 5 s"), "{}", answer.text());
    }
    assert_eq!(api_server.answer().await.unwrap().status, 100);
    api_server.send(&body).await.unwrap();
    assert!(Decision::of(&api_server.answer().await.unwrap()).allowed);
}

#[tokio::test]
async fn counts_reviews_whose_client_disconnects() {
    // An API server that accepts connections and sends no response.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kube_api = format!("--kube-api=http://{}", silent.local_addr().unwrap());
    let webhook = Webhook::start(&["--service-account-read=fresh", &kube_api]).await;
    let hung_up = r#"pod_identity_http_responses_total{status="499",code="hung_up"}"#;
    assert_eq!(webhook.metric(hung_up).await, None);
    let body = review(&pod("stranger"));
    let head = format!(
        "POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // Each gets its response after a second. On a busy machine this may be before the webhook sees the disconnect.
    eventually("a disconnect is counted", || async {
        let mut connection = webhook.connect().await.unwrap();
        connection.send(head.as_bytes()).await.unwrap();
        assert_eq!(connection.answer().await.unwrap().status, 100);
        connection.send(&body).await.unwrap();
        drop(connection);
        (webhook.metric(hung_up).await >= Some(1.0)).then_some(())
    })
    .await;
    let count = r#"http_request_count{verb="POST",path="/mutate",code="499"}"#;
    assert!(webhook.metric(count).await >= Some(1.0));
}

#[tokio::test]
async fn keeps_idle_connections_longer_than_an_api_server_does() {
    let webhook = Webhook::start(&[]).await;
    let body = review(&pod("cart"));
    let length = body.len().to_string();
    let headers = [("Host", "webhook"), JSON, ("Content-Length", length.as_str())];
    let mut used = webhook.connect().await.unwrap();
    assert_eq!(used.ask("POST /mutate", &headers, &body).await.unwrap().status, 200);
    // Go may open a connection that it uses only later.
    let mut unused = webhook.connect().await.unwrap();
    // This review's connection is accepted after those.
    assert!(webhook.review("/mutate", &pod("cart")).await.allowed);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(95)).await;
    tokio::time::resume();
    for connection in [&mut used, &mut unused] {
        assert_eq!(connection.ask("POST /mutate", &headers, &body).await.unwrap().status, 200);
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(121)).await;
    tokio::time::resume();
    assert!(used.closes().await && unused.closes().await);
}

#[tokio::test]
async fn replacing_the_certificate_under_load_loses_no_review() {
    let webhook = Webhook::start(&[]).await;
    let webhook = std::sync::Arc::new(webhook);
    let new_connections = |webhook: std::sync::Arc<Webhook>| async move {
        loop {
            assert!(webhook.review("/mutate", &pod("cart")).await.allowed);
        }
    };
    let kept_connection = |webhook: std::sync::Arc<Webhook>| async move {
        let body = review(&pod("cart"));
        let length = body.len().to_string();
        let headers = [("Host", "webhook"), JSON, ("Content-Length", length.as_str())];
        let mut connection = connect(webhook.address, &webhook.authority).await.unwrap();
        loop {
            let answer = connection.ask("POST /mutate", &headers, &body).await.unwrap();
            assert!(Decision::of(&answer).allowed);
        }
    };
    let loads: Vec<_> = (0..2)
        .flat_map(|_| {
            [tokio::spawn(new_connections(webhook.clone())), tokio::spawn(kept_connection(webhook.clone()))]
        })
        .collect();
    for _ in 0..2 {
        let before = webhook.certificate().await;
        webhook.authority.write_pair();
        eventually("the new certificate is served", || async {
            (webhook.certificate().await != before).then_some(())
        })
        .await;
    }
    for load in loads {
        assert!(!load.is_finished(), "{:?}", load.await);
        load.abort();
    }
}

#[tokio::test]
async fn exposes_the_expiry_of_a_certificate_from_files() {
    let webhook = Webhook::start(&[]).await;
    let expiry = async || webhook.metric("pod_identity_webhook_certificate_expires_seconds").await;
    // 4096-01-01, rcgen's default.
    assert_eq!(expiry().await, Some(67_090_118_400.0));
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(webhook.authority.certificate_file(), certificate.pem()).unwrap();
    std::fs::write(webhook.authority.key_file(), key.serialize_pem()).unwrap();
    eventually("the new expiry is exposed", async || (expiry().await == Some(2_208_988_800.0)).then_some(()))
        .await;
}
