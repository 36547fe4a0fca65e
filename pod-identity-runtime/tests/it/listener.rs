//! Limits and the drain.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use pod_identity_runtime::clock;
use pod_identity_runtime::http::{BodyError, plain, read_body};
use pod_identity_runtime::listener::Listener;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use testing::wire::{Connection, ask};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::servers::{Answering, LOOPBACK};

struct Server {
    address: std::net::SocketAddr,
    ender: Ender,
    serving: JoinHandle<()>,
    /// Told of a request for `/slow`, which is answered once it is let go.
    arrived: Arc<Notify>,
    let_go: Arc<Notify>,
}

async fn server() -> Server {
    let listener = Listener::bind(LOOPBACK).await.unwrap();
    let (ender, shutdown) = Shutdown::manual();
    let (arrived, let_go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (telling, waiting) = (arrived.clone(), let_go.clone());
    let handler = Answering(move |request: Request<Incoming>| {
        let (telling, waiting) = (telling.clone(), waiting.clone());
        async move {
            if request.uri().path() == "/slow" {
                telling.notify_one();
                waiting.notified().await;
            }
            match read_body(request.into_body(), 1000).await {
                Ok(body) => plain(StatusCode::OK, format!("{} bytes", body.len())),
                Err(BodyError::TooLarge { .. }) => plain(StatusCode::PAYLOAD_TOO_LARGE, "too large"),
                Err(error) => plain(StatusCode::BAD_REQUEST, error.to_string()),
            }
        }
    });
    let address = listener.address().unwrap();
    let serving = tokio::spawn(listener.serve(Arc::new(handler), shutdown));
    Server { address, ender, serving, arrived, let_go }
}

#[tokio::test]
async fn a_head_of_more_than_16_kib_is_refused_and_one_below_is_not() {
    let server = server().await;
    for (size, status) in [(15 * 1024, 200), (17 * 1024, 431)] {
        let padding = "x".repeat(size);
        let answer = ask(server.address, "GET /", &[("X-Padding", &padding)], b"").await.unwrap();
        assert_eq!(answer.status, status, "{size} bytes");
    }
}

#[tokio::test]
async fn more_than_64_headers_are_refused() {
    let server = server().await;
    for (number, status) in [(60, 200), (65, 431)] {
        let many = vec![("X", "y"); number];
        let answer = ask(server.address, "GET /", &many, b"").await.unwrap();
        assert_eq!(answer.status, status, "{number} headers");
    }
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_cut_off_after_five_seconds() {
    let server = server().await;
    let mut connection = Connection::open(server.address).await.unwrap();
    connection.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let started = clock::monotonic();
    // A byte from time to time does not help.
    let closed = async {
        while connection.send(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the connection stays open");
    assert!(started.elapsed() >= Duration::from_secs(4), "cut off after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_whether_its_length_is_told_or_not() {
    let server = server().await;
    assert_eq!(ask(server.address, "POST /", &[], &[b'x'; 1000]).await.unwrap().text(), "1000 bytes");
    assert_eq!(ask(server.address, "POST /", &[], &[b'x'; 1001]).await.unwrap().status, 413);
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let headers = [("Host", "x"), ("Transfer-Encoding", "chunked")];
    let mut connection = Connection::open(server.address).await.unwrap();
    assert_eq!(connection.ask("POST /", &headers, chunk.as_bytes()).await.unwrap().status, 413);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_after_five_seconds() {
    let server = server().await;
    let mut connection = Connection::open(server.address).await.unwrap();
    let headers = [("Host", "x"), ("Content-Length", "10")];
    let answer = connection.ask("POST /", &headers, b"12345").await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("within 5 s"), "{}", answer.text());
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_no_new_one_is_taken() {
    let mut server = server().await;
    let slow = tokio::spawn(async move { ask(server.address, "GET /slow", &[], b"").await });
    server.arrived.notified().await;
    // A client that keeps its connection open does not hold up the end.
    let mut idle = Connection::open(server.address).await.unwrap();
    assert_eq!(idle.ask("GET /", &[("Host", "x")], b"").await.unwrap().status, 200);

    server.ender.end();
    assert!(idle.closes().await, "an idle connection stays open");
    testing::eventually::eventually("new connections are refused", || async {
        let error = Connection::open(server.address).await.err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    })
    .await;
    assert!(!server.serving.is_finished(), "it ended with a request under way");

    server.let_go.notify_one();
    assert_eq!(slow.await.unwrap().unwrap().status, 200);
    tokio::time::timeout(Duration::from_secs(5), &mut server.serving)
        .await
        .expect("it does not end")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_drain_ends_at_its_deadline() {
    let mut server = server().await;
    let slow = tokio::spawn(async move { ask(server.address, "GET /slow", &[], b"").await });
    server.arrived.notified().await;
    slow.abort();
    let mut open = Connection::open(server.address).await.unwrap();
    open.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    server.arrived.notified().await;
    server.ender.end();
    // Time is virtual: it goes on by itself, to the next timer, whenever nothing else is to be done.
    let bound = pod_identity_runtime::shutdown::DRAIN_DEADLINE + Duration::from_secs(1);
    tokio::time::timeout(bound, &mut server.serving).await.expect("it waits for ever").unwrap();
}
