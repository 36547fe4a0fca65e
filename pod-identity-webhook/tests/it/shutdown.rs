//! A shutdown loses no review.

use std::time::Duration;

use pod_identity_runtime::clock;
use testing::eventually::eventually;
use testing::wire::Connection;

use crate::webhook::{Decision, JSON, Webhook, pod, review};

#[tokio::test]
async fn serves_reviews_during_the_shutdown_delay_and_closes_each_connection() {
    let webhook = Webhook::start(&["--shutdown-delay=5"]).await;
    assert_eq!(webhook.admin("/readyz").await.status, 200);
    let body = review(&pod("cart"));
    let length = body.len().to_string();
    let headers = [("Host", "webhook"), JSON, ("Content-Length", length.as_str())];
    let mut kept = webhook.connect().await.unwrap();
    assert_eq!(kept.ask("POST /mutate", &headers, &body).await.unwrap().header("connection"), None);

    let start = clock::monotonic();
    webhook.ender.end();
    eventually("the webhook is not ready", || async {
        let answer = webhook.admin("/readyz").await;
        (answer.status == 503 && answer.text().contains("shutdown")).then_some(())
    })
    .await;
    // The next response on a kept connection closes it.
    let answer = kept.ask("POST /mutate", &headers, &body).await.unwrap();
    assert!(Decision::of(&answer).allowed);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(kept.closes().await);
    // New connections are still accepted.
    assert!(webhook.review("/mutate", &pod("cart")).await.allowed);
    assert_eq!(webhook.admin("/healthz").await.status, 200);

    // A review that is half sent at the end of the delay still gets its response.
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
    assert!(start.elapsed() >= Duration::from_secs(5), "after {:?}", start.elapsed());
    assert!(!webhook.serving.is_finished());
    slow.send(&body[100..]).await.unwrap();
    assert!(Decision::of(&slow.answer().await.unwrap()).allowed);
    tokio::time::timeout(Duration::from_secs(5), webhook.serving)
        .await
        .expect("the webhook must end")
        .unwrap()
        .unwrap();
}
