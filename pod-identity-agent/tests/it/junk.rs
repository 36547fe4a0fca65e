//! Limits of each peer: a node that has just started, and a pod that sends junk, which are tokens with invalid
//! signatures.
//!
//! Each pod has its own network namespace, because all addresses of one machine are one peer. The agent has no keys, so
//! each new token leads to a call.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use pod_identity_agent::app::App;
use pod_identity_agent::config::Config;
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_runtime::clock;
use pod_identity_runtime::http::answer;
use pod_identity_runtime::listener::{Handler, Limits, Listener, Peer};
use pod_identity_runtime::shutdown::Shutdown;
use testing::eventually::eventually;
use testing::netns::{self, Namespace};
use testing::wire::{Answer, Connection};
use tokio::net::TcpSocket;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::agent::{LOOPBACK, check_error, config, granted, pod};

/// The address of the agent on every node.
const AGENT: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 23);
/// The node's addresses on the links to its pods, from the network for such measurements (RFC 2544).
const TOWARDS_JUNK: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const TOWARDS_PODS: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);

/// An EKS Auth that refuses tokens with a signature `junk...`, accepts all others, and records all of them.
struct JunkRefusingEksAuth {
    calls: Mutex<Vec<String>>,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    /// Time of a response.
    latency: Duration,
    /// One permit for each response to junk.
    refusals: Semaphore,
}

impl JunkRefusingEksAuth {
    fn new(latency: Duration, refusals: usize) -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(0),
            latency,
            refusals: Semaphore::new(refusals),
        })
    }

    /// Returns the number of calls for junk, and of calls for other tokens.
    fn calls(&self) -> (usize, usize) {
        let calls = self.calls.lock().unwrap();
        let junk = calls.iter().filter(|token| is_junk(token)).count();
        (junk, calls.len() - junk)
    }
}

fn is_junk(token: &str) -> bool {
    token.rsplit('.').next().is_some_and(|signature| signature.starts_with("junk"))
}

impl Handler for JunkRefusingEksAuth {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let token = body["token"].as_str().unwrap().to_owned();
        let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.max_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        let junk = is_junk(&token);
        self.calls.lock().unwrap().push(token);
        if junk {
            let _permit = self.refusals.acquire().await.unwrap();
        }
        tokio::time::sleep(self.latency).await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !junk {
            return answer(StatusCode::OK, "application/json", granted("default", "app").into());
        }
        let mut response = answer(StatusCode::BAD_REQUEST, "application/json", "{}".into());
        response.headers_mut().insert("x-amzn-errortype", "InvalidTokenException".parse().unwrap());
        response
    }
}

/// A simulated node with an agent, a pod that sends junk, and other pods.
struct TestNode {
    namespace: Namespace,
    junk: Namespace,
    pods: Namespace,
    eks_auth: Arc<JunkRefusingEksAuth>,
    agent: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

impl TestNode {
    /// Starts a node whose other pods have this number of addresses.
    fn start(eks_auth: Arc<JunkRefusingEksAuth>, addresses: u8) -> Self {
        Self::start_with(eks_auth, addresses, "0")
    }

    /// The same with this value of `net.ipv4.ip_nonlocal_bind`.
    fn start_with(eks_auth: Arc<JunkRefusingEksAuth>, addresses: u8, nonlocal_bind: &str) -> Self {
        let [namespace, junk, pods] = [(); 3].map(|()| Namespace::new().unwrap());
        namespace.sysctl("ipv4/ip_nonlocal_bind", nonlocal_bind).unwrap();
        namespace.add_address(AGENT).unwrap();
        junk.connect(&namespace, TOWARDS_JUNK, 1).unwrap();
        pods.connect(&namespace, TOWARDS_PODS, addresses).unwrap();
        let (sender, receiver) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let upstream = eks_auth.clone();
        let running = namespace.run(move || {
            on_this_thread(async {
                let eks_auth = Listener::bind(SocketAddr::new(LOOPBACK, 0)).await.unwrap();
                // The tests cover limits of calls, not limits of connections.
                let limits = Limits::ONE_MACHINE;
                let agent = Config { limits, ..config(eks_auth.address().unwrap(), &[AGENT.into()]) };
                tokio::spawn(eks_auth.serve(upstream, Shutdown::never()));
                let agent = App::bind(agent).await.unwrap();
                sender.send(agent.addresses()[0]).unwrap();
                tokio::spawn(agent.run(Shutdown::never()));
                let _ = stopped.await;
            });
        });
        let agent = receiver.recv().unwrap();
        Self { namespace, junk, pods, eks_auth, agent, stop: Some(stop), running: Some(running) }
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        self.stop.take();
        let ended = self.running.take().is_some_and(|running| running.join().is_ok());
        assert!(ended || std::thread::panicking(), "the node of {:?} panicked", self.namespace);
    }
}

fn on_this_thread<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// Returns tokens of different pods of one service account.
fn tokens(count: usize) -> Vec<String> {
    let issuer = Issuer::new("https://a.test", "http://127.0.0.1:1", KeyAlgorithm::Es256).unwrap();
    let minutes = Duration::from_secs(300);
    (0..count).map(|_| issuer.mint(&pod().token_request(clock::now(), minutes)).unwrap()).collect()
}

/// Returns copies of a token with different invalid signatures.
fn junk_tokens() -> impl Iterator<Item = String> {
    let token = tokens(1).remove(0);
    let (signed, _) = token.rsplit_once('.').unwrap();
    let signed = signed.to_owned();
    (0..).map(move |number| format!("{signed}.junk{number}"))
}

async fn request(agent: SocketAddr, from: Option<Ipv4Addr>, token: &str) -> Answer {
    try_request(agent, from, token).await.unwrap()
}

async fn try_request(agent: SocketAddr, from: Option<Ipv4Addr>, token: &str) -> std::io::Result<Answer> {
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(IpAddr::V4(from), 0))?;
    }
    let stream = socket.connect(agent).await?;
    let (host, line) = (agent.to_string(), "GET /v1/credentials");
    let headers = [("Host", host.as_str()), ("Connection", "close"), ("Authorization", token)];
    Connection::over(stream).ask(line, &headers, b"").await
}

/// Sends 1,000 junk requests per second. Returns the time of sending. Every response is an error, and a busy machine
/// may not respond to every request.
async fn send_junk(agent: SocketAddr, requests: usize) -> Duration {
    let (started, mut ticks) = (clock::monotonic(), tokio::time::interval(Duration::from_millis(1)));
    let mut in_flight = JoinSet::new();
    for token in junk_tokens().take(requests) {
        ticks.tick().await;
        in_flight.spawn(async move {
            let Ok(answer) = try_request(agent, None, &token).await else { return };
            assert!([400, 503].contains(&answer.status), "{answer:?}");
            check_error(&answer);
        });
    }
    let sent = started.elapsed();
    in_flight.join_all().await;
    sent.max(Duration::from_millis(requests as u64))
}

/// Repeats a request after a 503, as an SDK does. Returns the number of requests. A busy machine may need several,
/// which make no further calls.
async fn get_until_served(agent: SocketAddr, address: Ipv4Addr, token: String) -> usize {
    for tries in 1..=10 {
        let answer = request(agent, Some(address), &token).await;
        if answer.status == 200 {
            return tries;
        }
        assert_eq!(
            (answer.status, check_error(&answer).as_str()),
            (503, "upstream_unavailable"),
            "{answer:?}"
        );
    }
    panic!("{address} was not served");
}

#[test]
fn serves_250_pods_after_a_restart() {
    if !netns::available() {
        return;
    }
    let node = TestNode::start(JunkRefusingEksAuth::new(Duration::from_millis(50), 0), 250);
    let agent = node.agent;
    let served = node.pods.run(move || {
        on_this_thread(async {
            let mut pods = JoinSet::new();
            for (number, token) in (2..).zip(tokens(250)) {
                let address = Ipv4Addr::new(198, 18, 2, number);
                pods.spawn(get_until_served(agent, address, token));
            }
            pods.join_all().await.len()
        })
    });
    assert_eq!(served.join().unwrap(), 250);
    assert_eq!(node.eks_auth.calls(), (0, 250));
    let max_in_flight = node.eks_auth.max_in_flight.load(Ordering::SeqCst);
    assert!(
        (9..=48).contains(&max_in_flight),
        "{max_in_flight} concurrent calls, want more than the limit of one peer and at most the limit of all"
    );
}

#[test]
fn request_does_not_queue_behind_junk_of_another_pod() {
    if !netns::available() {
        return;
    }
    assert_request_does_not_queue(TestNode::start(eks_auth_that_never_refuses(), 1));
}

#[test]
fn request_does_not_queue_behind_junk_with_ip_nonlocal_bind() {
    if !netns::available() {
        return;
    }
    assert_request_does_not_queue(TestNode::start_with(eks_auth_that_never_refuses(), 1, "1"));
}

/// Returns an EKS Auth whose calls for junk never end.
fn eks_auth_that_never_refuses() -> Arc<JunkRefusingEksAuth> {
    JunkRefusingEksAuth::new(Duration::ZERO, 0)
}

fn assert_request_does_not_queue(node: TestNode) {
    let (agent, eks_auth) = (node.agent, node.eks_auth.clone());
    let (refused, requests_sent) = (Arc::new(AtomicUsize::new(0)), 300);
    let count = refused.clone();
    let junk = node.junk.run(move || {
        on_this_thread(async {
            let mut requests = JoinSet::new();
            for token in junk_tokens().take(requests_sent) {
                let count = count.clone();
                requests.spawn(async move {
                    let answer = request(agent, None, &token).await;
                    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "{answer:?}");
                    if check_error(&answer) == "throttled" {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            eventually("junk uses all permits of its peer", || async {
                let full =
                    eks_auth.calls() == (8, 0) && count.load(Ordering::SeqCst) == requests_sent - 8 - 256;
                full.then_some(())
            })
            .await;
            eks_auth.calls()
        })
    });
    assert_eq!(junk.join().unwrap(), (8, 0));
    let served = node.pods.run(move || on_this_thread(request(agent, None, &tokens(1)[0])).status);
    assert_eq!(served.join().unwrap(), 200);
    let calls = node.eks_auth.calls.lock().unwrap().clone();
    assert_eq!(
        (calls.len(), calls.last().map(|token| is_junk(token))),
        (9, Some(false)),
        "the request does not queue"
    );
}

#[test]
fn one_thousand_junk_requests_per_second_make_four_calls_per_second() {
    if !netns::available() {
        return;
    }
    let node = TestNode::start(JunkRefusingEksAuth::new(Duration::ZERO, Semaphore::MAX_PERMITS), 20);
    let agent = node.agent;
    let started = clock::monotonic();
    let junk = node.junk.run(move || on_this_thread(send_junk(agent, 2000)));
    let pods = node.pods.run(move || {
        on_this_thread(async {
            let mut at_once = 0;
            for (number, token) in (2..).zip(tokens(20)) {
                let tries = get_until_served(agent, Ipv4Addr::new(198, 18, 2, number), token).await;
                at_once += usize::from(tries == 1);
            }
            at_once
        })
    });
    let at_once = pods.join().unwrap();
    junk.join().unwrap();
    assert!(at_once >= 18, "only {at_once} of 20 pods got credentials at the first request");
    let (junk, pods) = node.eks_auth.calls();
    assert_eq!(pods, 20);
    // Eight permits, each held for two seconds after an error.
    let max_in_flight = 8 + 8 * (started.elapsed().as_secs() as usize / 2);
    assert!((8..=max_in_flight).contains(&junk), "{junk} calls for junk, at most {max_in_flight}");
}

/// A measurement: see `CONTRIBUTING.md`.
#[test]
#[ignore = "measures times: run it alone, in release"]
fn junk_delays_another_pod_by_less_than_50_ms() {
    assert!(netns::available());
    let node = TestNode::start(JunkRefusingEksAuth::new(Duration::ZERO, Semaphore::MAX_PERMITS), 250);
    let agent = node.agent;
    let first_requests = move |addresses: std::ops::Range<u8>| {
        move || {
            on_this_thread(async {
                let mut times = Vec::new();
                for (number, token) in addresses.zip(tokens(100)) {
                    let started = clock::monotonic();
                    let answer = request(agent, Some(Ipv4Addr::new(198, 18, 2, number)), &token).await;
                    times.push(started.elapsed());
                    assert_eq!(answer.status, 200, "{answer:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                times.sort();
                times
            })
        }
    };
    let quiet = node.pods.run(first_requests(2..102)).join().unwrap();
    let junk = node.junk.run(move || on_this_thread(send_junk(agent, 5000)));
    let under_junk = node.pods.run(first_requests(102..202)).join().unwrap();
    let sent = junk.join().unwrap();
    for (name, times) in [("quiet", &quiet), ("under junk", &under_junk)] {
        println!("{name}: median {:?}, 99th of 100 {:?}, slowest {:?}", times[50], times[98], times[99]);
    }
    println!("5000 junk requests were sent in {sent:?}, and were {} calls", node.eks_auth.calls().0);
    assert!(under_junk[99] < quiet[50] + Duration::from_millis(50));
}
