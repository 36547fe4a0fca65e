//! The end: no review is lost by it.

use std::time::Duration;

use pod_identity_runtime::clock;
use testing::eventually::eventually;
use testing::wire::Connection;

use crate::webhook::{Decision, JSON, Webhook, pod, review};

#[tokio::test]
async fn after_the_signal_reviews_are_answered_for_a_while_each_ending_its_connection_and_then_none() {
    let webhook = Webhook::start(&["--shutdown-delay=5"]).await;
    assert_eq!(webhook.admin("/readyz").await.status, 200);
    let body = review(&pod("cart"));
    let length = body.len().to_string();
    let headers = [("Host", "webhook"), JSON, ("Content-Length", length.as_str())];
    let mut kept = webhook.connect().await.unwrap();
    assert_eq!(kept.ask("POST /mutate", &headers, &body).await.unwrap().header("connection"), None);

    let asked = clock::monotonic();
    webhook.ender.end();
    eventually("it is not ready any more", || async {
        let answer = webhook.admin("/readyz").await;
        (answer.status == 503 && answer.text().contains("shutdown")).then_some(())
    })
    .await;
    // The connection that is kept has one more answer, with which it ends.
    let answer = kept.ask("POST /mutate", &headers, &body).await.unwrap();
    assert!(Decision::of(&answer).allowed);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(kept.closes().await);
    // New ones are taken, too.
    assert!(webhook.review("/mutate", &pod("cart")).await.allowed);
    assert_eq!(webhook.admin("/healthz").await.status, 200);

    // A review that is under way when the delay is over is answered.
    let mut slow = webhook.connect().await.unwrap();
    let head = format!(
        "POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    slow.send(head.as_bytes()).await.unwrap();
    slow.send(&body[..100]).await.unwrap();
    eventually("new connections are refused", || async {
        Connection::open(webhook.address).await.err().map(drop)
    })
    .await;
    assert!(asked.elapsed() >= Duration::from_secs(5), "after {:?}", asked.elapsed());
    assert!(!webhook.serving.is_finished());
    slow.send(&body[100..]).await.unwrap();
    assert!(Decision::of(&slow.answer().await.unwrap()).allowed);
    tokio::time::timeout(Duration::from_secs(5), webhook.serving)
        .await
        .expect("it does not end")
        .unwrap()
        .unwrap();
}
