//! Limits of listeners, and the drain.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use pod_identity_runtime::clock;
use pod_identity_runtime::http::{BodyError, plain, read_body};
use pod_identity_runtime::listener::{Connections, Limits, Listener};
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use testing::eventually::eventually;
use testing::wire::{Connection, ask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::servers::{FnHandler, LOOPBACK};

struct Server {
    address: std::net::SocketAddr,
    ender: Ender,
    serving: JoinHandle<()>,
    /// Notified of a request for `/slow`, whose response waits for `let_go`.
    arrived: Arc<Notify>,
    let_go: Arc<Notify>,
}

async fn server() -> Server {
    let listener = Listener::bind(LOOPBACK).await.unwrap();
    let (ender, shutdown) = Shutdown::manual();
    let (arrived, let_go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (arrived.clone(), let_go.clone());
    let handler = FnHandler(move |request: Request<Incoming>| {
        let (arrived, let_go) = signals.clone();
        async move {
            if request.uri().path() == "/slow" {
                arrived.notify_one();
                let_go.notified().await;
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
async fn head_of_more_than_16_kib_is_refused() {
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
async fn client_that_never_ends_its_head_is_disconnected_after_five_seconds() {
    let server = server().await;
    let mut connection = Connection::open(server.address).await.unwrap();
    connection.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let started = clock::monotonic();
    // An additional byte from time to time does not extend the time.
    let closed = async {
        while connection.send(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed).await.expect("the connection stays open");
    assert!(started.elapsed() >= Duration::from_secs(4), "cut off after {:?}", started.elapsed());
}

#[tokio::test]
async fn body_is_read_up_to_its_limit_with_and_without_content_length() {
    let server = server().await;
    assert_eq!(ask(server.address, "POST /", &[], &[b'x'; 1000]).await.unwrap().text(), "1000 bytes");
    assert_eq!(ask(server.address, "POST /", &[], &[b'x'; 1001]).await.unwrap().status, 413);
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let headers = [("Host", "x"), ("Transfer-Encoding", "chunked")];
    let mut connection = Connection::open(server.address).await.unwrap();
    assert_eq!(connection.ask("POST /", &headers, chunk.as_bytes()).await.unwrap().status, 413);
}

#[tokio::test]
async fn incomplete_body_is_refused_after_five_seconds() {
    let server = server().await;
    let mut connection = Connection::open(server.address).await.unwrap();
    let headers = [("Host", "x"), ("Content-Length", "10")];
    let answer = connection.ask("POST /", &headers, b"12345").await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("within 5 s"), "{}", answer.text());
}

#[tokio::test]
async fn drain_finishes_a_request_in_progress_and_accepts_no_new_one() {
    let mut server = server().await;
    let slow = tokio::spawn(async move { ask(server.address, "GET /slow", &[], b"").await });
    server.arrived.notified().await;
    // A client with an idle connection does not delay the end.
    let mut idle = Connection::open(server.address).await.unwrap();
    assert_eq!(idle.ask("GET /", &[("Host", "x")], b"").await.unwrap().status, 200);

    server.ender.end();
    assert!(idle.closes().await, "an idle connection stays open");
    testing::eventually::eventually("new connections are refused", || async {
        let error = Connection::open(server.address).await.err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    })
    .await;
    assert!(!server.serving.is_finished(), "it ended with a request in progress");

    server.let_go.notify_one();
    assert_eq!(slow.await.unwrap().unwrap().status, 200);
    tokio::time::timeout(Duration::from_secs(5), &mut server.serving)
        .await
        .expect("the drain does not end")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn drain_ends_at_its_deadline() {
    let mut server = server().await;
    let slow = tokio::spawn(async move { ask(server.address, "GET /slow", &[], b"").await });
    server.arrived.notified().await;
    slow.abort();
    let mut open = Connection::open(server.address).await.unwrap();
    open.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    server.arrived.notified().await;
    server.ender.end();
    // Time is virtual: it advances to the next timer when all tasks wait.
    let bound = pod_identity_runtime::shutdown::DRAIN_DEADLINE + Duration::from_secs(1);
    tokio::time::timeout(bound, &mut server.serving).await.expect("the drain waits forever").unwrap();
}

/// A server with limits whose responses have `size` bytes.
async fn limited(limits: Limits, size: usize) -> (SocketAddr, Ender, JoinHandle<()>) {
    let listener = Listener::bind(LOOPBACK).await.unwrap().with_connections(Connections::new(limits));
    let (ender, shutdown) = Shutdown::manual();
    let address = listener.address().unwrap();
    let body = bytes::Bytes::from(vec![b'x'; size]);
    let handler =
        FnHandler(move |_: Request<Incoming>| std::future::ready(plain(StatusCode::OK, body.clone())));
    (address, ender, tokio::spawn(listener.serve(Arc::new(handler), shutdown)))
}

/// Returns whether the server has closed the connection. It discards received bytes.
async fn is_closed(stream: &mut TcpStream, limit: Duration) -> bool {
    let read = async {
        let mut buffer = vec![0; 64 * 1024];
        while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    tokio::time::timeout(limit, read).await.is_ok()
}

#[tokio::test]
async fn closes_connection_whose_client_does_not_read() {
    let limits = Limits { write_stall: Duration::from_millis(300), ..Limits::ONE_MACHINE };
    let (address, _ender, _) = limited(limits, 1 << 20).await;
    let mut stalled = TcpStream::connect(address).await.unwrap();
    // More than the kernel buffers of both sides.
    let requests = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(64);
    stalled.write_all(requests.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is_closed(&mut stalled, Duration::from_secs(5)).await);
}

#[tokio::test]
async fn keeps_connection_whose_client_reads_slowly() {
    let limits = Limits { write_stall: Duration::from_millis(400), ..Limits::ONE_MACHINE };
    let size = 8 << 20;
    let (address, _ender, _) = limited(limits, size).await;
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let (mut received, mut buffer) = (0, vec![0; 512 * 1024]);
    loop {
        match slow.read(&mut buffer).await.unwrap() {
            0 => break,
            count => received += count,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(received > size, "{received} bytes of an answer of more than {size}");
}

#[tokio::test]
async fn closes_connections_of_a_peer_above_its_limit_and_serves_its_others() {
    let limits = Limits { connections_per_peer: 3, ..Limits::ONE_MACHINE };
    let (address, _ender, _) = limited(limits, 1).await;
    let mut connections = Vec::new();
    // This machine's own addresses have a limit four times as high.
    for _ in 0..12 {
        let mut connection = Connection::open(address).await.unwrap();
        assert_eq!(connection.ask("GET /", &[("Host", "x")], b"").await.unwrap().status, 200);
        connections.push(connection);
    }
    let mut further = TcpStream::connect(address).await.unwrap();
    assert!(is_closed(&mut further, Duration::from_secs(2)).await);
    assert_eq!(connections[0].ask("GET /", &[("Host", "x")], b"").await.unwrap().status, 200);
    connections.pop();
    eventually("the connection is released", || async { ask(address, "GET /", &[], b"").await.ok() }).await;
}

#[tokio::test]
async fn serves_at_shutdown_every_request_that_was_sent_before() {
    let (address, ender, serving) = limited(Limits::ONE_MACHINE, 10).await;
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    // Idle connections that were used before, whose next request is in transit at the shutdown.
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut connection = Connection::open(address).await.unwrap();
        assert_eq!(connection.ask("GET /", &[("Host", "x")], b"").await.unwrap().status, 200);
        idle.push(connection);
    }
    // New connections that are not accepted yet, because this test's thread is the server's.
    let mut queued: Vec<std::net::TcpStream> = Vec::new();
    for _ in 0..100 {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, request).unwrap();
        queued.push(stream);
    }
    for connection in &mut idle {
        connection.send(request).await.unwrap();
    }
    ender.end();
    for (number, stream) in queued.into_iter().enumerate() {
        stream.set_nonblocking(true).unwrap();
        let mut answer = Vec::new();
        let read = TcpStream::from_std(stream).unwrap().read_to_end(&mut answer).await;
        assert!(read.is_ok() && answer.starts_with(b"HTTP/1.1 200"), "queued {number}: {read:?}");
        assert!(String::from_utf8_lossy(&answer).contains("connection: close"), "queued {number}");
    }
    for connection in &mut idle {
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}
