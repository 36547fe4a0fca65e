#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::*;
use crate::error::CacheEffect;

const DEADLINE: Duration = Duration::from_secs(10);
const RESPONSE_TIME: Duration = Duration::from_millis(50);

fn pod(number: u8) -> Peer {
    Peer::Remote(Ipv4Addr::new(192, 0, 2, number).into())
}

/// Returns the response to each call, given the number of concurrent calls.
type Upstream = Rc<dyn Fn(usize) -> Response>;

#[derive(Debug, Clone, Copy)]
enum Response {
    Accepted,
    Refused,
    Throttled(Option<Duration>),
}

/// An embedder with a virtual clock, and an upstream that counts calls.
#[derive(Clone)]
struct Node {
    limits: Limits,
    start: Instant,
    upstream: Upstream,
    in_progress: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
    /// Peer and time of each call.
    calls: Rc<RefCell<Vec<(Peer, Duration)>>>,
}

impl Node {
    fn new(upstream: impl Fn(usize) -> Response + 'static) -> Self {
        Self {
            limits: Limits::new(UpstreamLimits::default()),
            start: Instant::now(),
            upstream: Rc::new(upstream),
            in_progress: Rc::default(),
            most: Rc::default(),
            calls: Rc::default(),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Makes one attempt of a token. Returns whether the call was made.
    async fn request(self, peer: Peer, accepted: bool) -> bool {
        let queued = if accepted { Ok(self.limits.accepted()) } else { self.limits.unaccepted(peer) };
        let Ok(queued) = queued else { return false };
        let call = queued.call().await;
        let Ok(began) = call.turn(self.now() + DEADLINE, || self.now(), sleep).await else { return false };
        self.calls.borrow_mut().push((peer, began));
        self.in_progress.set(self.in_progress.get() + 1);
        self.most.set(self.most.get().max(self.in_progress.get()));
        let response = (self.upstream)(self.in_progress.get());
        sleep(RESPONSE_TIME).await;
        self.in_progress.set(self.in_progress.get() - 1);
        let error = match response {
            Response::Accepted => None,
            Response::Refused => Some(CacheEffect::RefusesToken),
            Response::Throttled(retry_after) => {
                self.limits.throttled(began, retry_after, self.now());
                Some(CacheEffect::CallFailed)
            }
        };
        if let Some(credit_hold) = call.end(error, self.now()) {
            let left = credit_hold.until() - self.now();
            tokio::task::spawn_local(async move {
                sleep(left).await;
                drop(credit_hold);
            });
        }
        true
    }

    fn calls_of(&self, peer: Peer) -> usize {
        self.calls.borrow().iter().filter(|(caller, _)| *caller == peer).count()
    }

    fn calls_between(&self, from: u64, to: u64) -> usize {
        let within = Duration::from_secs(from)..Duration::from_secs(to);
        self.calls.borrow().iter().filter(|(_, began)| within.contains(began)).count()
    }
}

fn virtual_time<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async { LocalSet::new().run_until(async { test().await }).await })
}

/// Waits until all tasks wait. It takes less time than a response.
async fn settled() {
    sleep(Duration::from_millis(1)).await;
}

/// Starts a number of requests of a peer. Each task returns whether its call was made.
fn flood(node: &Node, peer: Peer, requests: usize) -> Vec<tokio::task::JoinHandle<bool>> {
    (0..requests).map(|_| tokio::task::spawn_local(node.clone().request(peer, false))).collect()
}

#[test]
fn serves_250_pods_in_a_third_of_a_second() {
    virtual_time(|| async {
        let node = Node::new(|_| Response::Accepted);
        for pods in (0..250).map(|number| flood(&node, pod(number), 1)).collect::<Vec<_>>() {
            for made in pods {
                assert!(made.await.unwrap());
            }
        }
        assert_eq!(node.most.get(), 48, "the limit of calls for unverified tokens");
        assert!(node.now() <= Duration::from_millis(300), "{:?}", node.now());
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (0, 0));
    });
}

#[test]
fn invalid_tokens_of_one_pod_get_four_calls_a_second_and_delay_no_other_pod() {
    virtual_time(|| async {
        let node = Node::new(|_| Response::Refused);
        let requests = flood(&node, pod(1), 264);
        settled().await;
        assert_eq!(node.limits.unaccepted(pod(1)).err(), Some(QueueFull), "the queue is full at 264");
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (8, 256));
        sleep(Duration::from_secs(10)).await;
        let made = node.calls_of(pod(1));
        assert!((32..=48).contains(&made), "{made} calls in 10 s");

        let before = node.now();
        assert!(node.clone().request(pod(2), false).await);
        assert_eq!(node.calls.borrow().last().unwrap(), &(pod(2), before), "another pod had to wait");
        for made in requests {
            made.abort();
        }
    });
}

#[test]
fn invalid_tokens_of_many_peers_leave_calls_for_known_tokens() {
    virtual_time(|| async {
        let node = Node::new(|_| Response::Refused);
        let requests: Vec<_> = (10..100).map(|number| flood(&node, pod(number), 264)).collect();
        settled().await;
        assert_eq!(node.limits.in_flight(), 48);
        let before = node.now();
        assert!(node.clone().request(pod(1), true).await);
        assert_eq!(node.now() - before, RESPONSE_TIME);
        drop(requests);
    });
}

#[test]
fn all_addresses_of_the_node_are_one_peer_with_its_own_limit() {
    virtual_time(|| async {
        let node = Node::new(|_| Response::Refused);
        let _requests = flood(&node, Peer::Local, 2000);
        settled().await;
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (32, 1024));
        // An IPv4-mapped IPv6 address is the same peer as the IPv4 address.
        let _requests = flood(&node, Peer::Remote("::ffff:192.0.2.1".parse().unwrap()), 8);
        settled().await;
        let before = node.calls.borrow().len();
        let _more = flood(&node, pod(1), 8);
        settled().await;
        assert_eq!(node.calls.borrow().len(), before, "the credits are taken");
    });
}

#[test]
fn calls_an_upstream_that_throttles_less_and_later_without_limit() {
    virtual_time(|| async {
        // Clients that always try again, each with its own identity. The upstream accepts 20 concurrent calls.
        let node = Node::new(
            |in_progress| if in_progress > 20 { Response::Throttled(None) } else { Response::Accepted },
        );
        for number in 0..40 {
            let node = node.clone();
            tokio::task::spawn_local(async move {
                while node.now() < Duration::from_secs(30) {
                    node.clone().request(pod(number), true).await;
                }
            });
        }
        sleep(Duration::from_secs(30)).await;
        assert_eq!(node.most.get(), 40, "at first there is no limit");
        let (first, later) = (node.calls_between(0, 1), node.calls_between(1, 2));
        assert!((3..=33).contains(&later), "{first} calls in the first second, then {later}");
        // One call per second more each second, as long as nothing is refused: 50 ms at 20 calls are 400/s.
        let (tenth, twentieth) = (node.calls_between(10, 11), node.calls_between(20, 21));
        assert!(
            twentieth >= tenth + 8 && twentieth <= tenth + 12,
            "{tenth} calls, ten seconds later {twentieth}"
        );
        assert!(node.limits.rate_limit(Duration::from_secs(70)).is_none());
    });
}

#[test]
fn waits_for_retry_after_and_fails_at_once_if_the_deadline_is_earlier() {
    virtual_time(|| async {
        let asks = |seconds| move |_| Response::Throttled(Some(Duration::from_secs(seconds)));
        let node = Node::new(asks(4));
        assert!(node.clone().request(pod(1), false).await);
        let responded = node.now();
        assert!(node.clone().request(pod(2), false).await);
        assert_eq!(node.calls.borrow()[1].1, responded + Duration::from_secs(4));

        let node = Node::new(asks(20));
        assert!(node.clone().request(pod(1), false).await);
        let responded = node.now();
        let call = node.limits.accepted().call().await;
        let turn = call.turn(responded + DEADLINE, || node.now(), sleep).await;
        assert_eq!(turn, Err(Throttled { until: responded + Duration::from_secs(20) }));
        assert_eq!(node.now(), responded);
    });
}

#[test]
fn peers_alternate_under_a_rate_limit() {
    virtual_time(|| async {
        let node = Node::new(|_| Response::Accepted);
        node.limits.throttled(Duration::ZERO, None, Duration::ZERO);
        let _requests = flood(&node, pod(1), 264);
        sleep(Duration::from_millis(100)).await;
        for number in 2..5 {
            flood(&node, pod(number), 1);
        }
        sleep(Duration::from_secs(2)).await;
        let callers: Vec<Peer> = node.calls.borrow().iter().map(|(caller, _)| *caller).collect();
        assert_eq!(callers[..5], [pod(1), pod(2), pod(3), pod(4), pod(1)]);
    });
}

#[test]
fn cancelled_requests_release_everything() {
    virtual_time(|| async {
        let node = Node::new(|_| Response::Refused);
        node.limits.throttled(Duration::ZERO, None, Duration::ZERO);
        let requests = flood(&node, pod(1), 264);
        sleep(Duration::from_secs(1)).await;
        for request in &requests {
            request.abort();
        }
        sleep(UpstreamLimits::default().hold + RESPONSE_TIME).await;
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (0, 0));
        node.limits.sweep();
        assert_eq!(node.limits.peers(), 0);
        assert!(node.clone().request(pod(1), false).await);
    });
}

#[test]
fn renewals_keep_their_rate_and_their_concurrency() {
    let limits = Limits::new(UpstreamLimits { renewals: 2, ..UpstreamLimits::default() });
    let at = Duration::from_secs;
    let renew = |second| limits.renewal(10, at(6 * 3600), at(second));
    assert!(renew(0).is_none(), "unused renewals accumulated");
    let (one, two) = (renew(100).unwrap(), renew(100).unwrap());
    assert!(renew(100).is_none(), "two renewals are in progress");
    drop((one, two));
    assert!(renew(100).is_some() && renew(100).is_some(), "the renewals of one second, and one more");
    assert!(renew(100).is_none());
    // 900 entries of a quarter of an hour need 4 renewals per second.
    let many: Vec<_> = (0..9).filter_map(|_| limits.renewal(900, at(900), at(200)).map(drop)).collect();
    assert_eq!(many.len(), 5);
}

#[test]
fn waiting_requests_go_before_renewals() {
    virtual_time(|| async {
        let node = Node::new(|_| Response::Accepted);
        let renew = || node.limits.renewal(10, Duration::from_secs(3600), node.now());
        sleep(Duration::from_secs(1)).await;
        node.limits.throttled(Duration::ZERO, None, node.now());
        sleep(Duration::from_secs(1)).await;
        assert!(renew().is_some(), "a call may begin, and no request waits");
        assert!(renew().is_none(), "the rate limit counts renewals");
        let request = flood(&node, pod(1), 6);
        settled().await;
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (0, 6), "each is counted once");
        for _ in 0..4 {
            sleep(Duration::from_millis(300)).await;
            assert!(node.limits.waiting() > 0 && renew().is_none(), "requests wait");
        }
        for made in request {
            assert!(made.await.unwrap());
        }
        sleep(Duration::from_secs(1)).await;
        assert!(renew().is_some());
    });
}

/// The actions of one client of the property test.
#[derive(Debug, Clone, Copy)]
struct Client {
    peer: u8,
    accepted: bool,
    starts: u64,
    patience: u64,
    response: u8,
}

fn clients() -> impl Strategy<Value = Vec<Client>> {
    let client = (0_u8..6, any::<bool>(), 0_u64..3000, 0_u64..8000, 0_u8..12);
    let client = client.prop_map(|(peer, accepted, starts, patience, response)| Client {
        peer,
        accepted,
        starts,
        patience,
        response,
    });
    prop::collection::vec(client, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn never_exceeds_a_limit_and_releases_every_permit(clients in clients()) {
        virtual_time(|| async {
            let response = Rc::new(Cell::new(0_u8));
            let upstream = { let response = response.clone(); move |_| match response.get() {
                0..6 => Response::Accepted,
                6..10 => Response::Refused,
                10 => Response::Throttled(None),
                _ => Response::Throttled(Some(Duration::from_secs(1))),
            }};
            let node = Node::new(upstream);
            let requests: Vec<_> = clients.iter().map(|client| {
                let (node, client, response) = (node.clone(), *client, response.clone());
                tokio::task::spawn_local(async move {
                    sleep(Duration::from_millis(client.starts)).await;
                    response.set(client.response);
                    let request = node.clone().request(pod(client.peer), client.accepted);
                    let _ = tokio::time::timeout(Duration::from_millis(client.patience), request).await;
                    assert!(node.limits.in_flight() <= 64);
                })
            }).collect();
            for request in requests {
                request.await.unwrap();
            }
            sleep(Duration::from_secs(100)).await;
            assert_eq!((node.limits.in_flight(), node.limits.waiting()), (0, 0));
            node.limits.sweep();
            assert_eq!(node.limits.peers(), 0);
            assert_eq!(node.limits.rate_limit(node.now()), None);
        });
    }
}
