#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::*;
use crate::error::Effect;

const DEADLINE: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_millis(50);

fn pod(number: u8) -> Peer {
    Peer::Remote(Ipv4Addr::new(192, 0, 2, number).into())
}

/// What a test's upstream says to each call, by the number of calls under way with it.
type Upstream = Rc<dyn Fn(usize) -> Said>;

#[derive(Debug, Clone, Copy)]
enum Said {
    Yes,
    Refused,
    Fewer(Option<Duration>),
}

/// An embedder with a virtual clock, and an upstream that counts.
#[derive(Clone)]
struct Node {
    limits: Limits,
    start: Instant,
    upstream: Upstream,
    under_way: Rc<Cell<usize>>,
    most: Rc<Cell<usize>>,
    /// Who called, and when.
    calls: Rc<RefCell<Vec<(Peer, Duration)>>>,
}

impl Node {
    fn new(upstream: impl Fn(usize) -> Said + 'static) -> Self {
        Self {
            limits: Limits::new(UpstreamLimits::default()),
            start: Instant::now(),
            upstream: Rc::new(upstream),
            under_way: Rc::default(),
            most: Rc::default(),
            calls: Rc::default(),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// One attempt of a token; whether it was made.
    async fn demand(self, peer: Peer, accepted: bool) -> bool {
        let place = if accepted { Ok(self.limits.accepted()) } else { self.limits.unaccepted(peer) };
        let Ok(place) = place else { return false };
        let call = place.call().await;
        let Ok(began) = call.turn(self.now() + DEADLINE, || self.now(), sleep).await else { return false };
        self.calls.borrow_mut().push((peer, began));
        self.under_way.set(self.under_way.get() + 1);
        self.most.set(self.most.get().max(self.under_way.get()));
        let said = (self.upstream)(self.under_way.get());
        sleep(ANSWER).await;
        self.under_way.set(self.under_way.get() - 1);
        let error = match said {
            Said::Yes => None,
            Said::Refused => Some(Effect::RefusesToken),
            Said::Fewer(retry_after) => {
                self.limits.throttled(began, retry_after, self.now());
                Some(Effect::CannotAsk)
            }
        };
        if let Some(held) = call.end(error, self.now()) {
            let left = held.until() - self.now();
            tokio::task::spawn_local(async move {
                sleep(left).await;
                drop(held);
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

/// Time for all that can go on to do so, and less than an answer takes.
async fn settled() {
    sleep(Duration::from_millis(1)).await;
}

/// Starts that many requests of a peer; how many were made in the end.
fn flood(node: &Node, peer: Peer, requests: usize) -> Vec<tokio::task::JoinHandle<bool>> {
    (0..requests).map(|_| tokio::task::spawn_local(node.clone().demand(peer, false))).collect()
}

#[test]
fn two_hundred_and_fifty_pods_are_served_in_a_third_of_a_second() {
    virtual_time(|| async {
        let node = Node::new(|_| Said::Yes);
        for pods in (0..250).map(|number| flood(&node, pod(number), 1)).collect::<Vec<_>>() {
            for made in pods {
                assert!(made.await.unwrap());
            }
        }
        assert_eq!(node.most.get(), 48, "the calls for tokens that nobody has accepted");
        assert!(node.now() <= Duration::from_millis(300), "{:?}", node.now());
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (0, 0));
    });
}

#[test]
fn junk_of_one_pod_gets_four_calls_a_second_and_delays_no_other() {
    virtual_time(|| async {
        let node = Node::new(|_| Said::Refused);
        let junk = flood(&node, pod(1), 264);
        settled().await;
        assert_eq!(node.limits.unaccepted(pod(1)).err(), Some(Crowded), "the 265th has no place");
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (8, 256));
        sleep(Duration::from_secs(10)).await;
        let made = node.calls_of(pod(1));
        assert!((32..=48).contains(&made), "{made} calls in 10 s");

        let before = node.now();
        assert!(node.clone().demand(pod(2), false).await);
        assert_eq!(node.calls.borrow().last().unwrap(), &(pod(2), before), "another pod had to wait");
        for made in junk {
            made.abort();
        }
    });
}

#[test]
fn junk_from_everywhere_leaves_calls_for_tokens_that_are_known() {
    virtual_time(|| async {
        let node = Node::new(|_| Said::Refused);
        let junk: Vec<_> = (10..100).map(|number| flood(&node, pod(number), 264)).collect();
        settled().await;
        assert_eq!(node.limits.in_flight(), 48);
        let before = node.now();
        assert!(node.clone().demand(pod(1), true).await);
        assert_eq!(node.now() - before, ANSWER);
        drop(junk);
    });
}

#[test]
fn all_addresses_of_the_node_are_one_peer_with_a_share_of_its_own() {
    virtual_time(|| async {
        let node = Node::new(|_| Said::Refused);
        let _junk = flood(&node, Peer::Local, 2000);
        settled().await;
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (32, 1024));
        // A mapped address is the address itself.
        let _junk = flood(&node, Peer::Remote("::ffff:192.0.2.1".parse().unwrap()), 8);
        settled().await;
        let before = node.calls.borrow().len();
        let _more = flood(&node, pod(1), 8);
        settled().await;
        assert_eq!(node.calls.borrow().len(), before, "the credits are taken");
    });
}

#[test]
fn an_upstream_that_throttles_is_asked_less_and_then_freely_again() {
    virtual_time(|| async {
        // Clients that never stop, each with an identity of its own; it takes 20 calls at once.
        let node = Node::new(|under_way| if under_way > 20 { Said::Fewer(None) } else { Said::Yes });
        for number in 0..40 {
            let node = node.clone();
            tokio::task::spawn_local(async move {
                while node.now() < Duration::from_secs(30) {
                    node.clone().demand(pod(number), true).await;
                }
            });
        }
        sleep(Duration::from_secs(30)).await;
        assert_eq!(node.most.get(), 40, "at first there is no limit");
        let (first, later) = (node.calls_between(0, 1), node.calls_between(1, 2));
        assert!((3..=33).contains(&later), "{first} calls in the first second, then {later}");
        // One a second more each second, as long as nothing is refused: 50 ms at 20 calls are 400/s.
        let (tenth, twentieth) = (node.calls_between(10, 11), node.calls_between(20, 21));
        assert!(
            twentieth >= tenth + 8 && twentieth <= tenth + 12,
            "{tenth} calls, ten seconds later {twentieth}"
        );
        assert!(node.limits.rate_limit(Duration::from_secs(70)).is_none());
    });
}

#[test]
fn nobody_calls_before_retry_after_and_who_cannot_wait_is_told_at_once() {
    virtual_time(|| async {
        let asks = |seconds| move |_| Said::Fewer(Some(Duration::from_secs(seconds)));
        let node = Node::new(asks(4));
        assert!(node.clone().demand(pod(1), false).await);
        let answered = node.now();
        assert!(node.clone().demand(pod(2), false).await);
        assert_eq!(node.calls.borrow()[1].1, answered + Duration::from_secs(4));

        let node = Node::new(asks(20));
        assert!(node.clone().demand(pod(1), false).await);
        let answered = node.now();
        let call = node.limits.accepted().call().await;
        let turn = call.turn(answered + DEADLINE, || node.now(), sleep).await;
        assert_eq!(turn, Err(Throttled { until: answered + Duration::from_secs(20) }));
        assert_eq!(node.now(), answered);
    });
}

#[test]
fn peers_take_turns_where_there_is_a_rate() {
    virtual_time(|| async {
        let node = Node::new(|_| Said::Yes);
        node.limits.throttled(Duration::ZERO, None, Duration::ZERO);
        let _junk = flood(&node, pod(1), 264);
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
fn a_request_that_goes_away_leaves_nothing_behind() {
    virtual_time(|| async {
        let node = Node::new(|_| Said::Refused);
        node.limits.throttled(Duration::ZERO, None, Duration::ZERO);
        let junk = flood(&node, pod(1), 264);
        sleep(Duration::from_secs(1)).await;
        for request in &junk {
            request.abort();
        }
        sleep(UpstreamLimits::default().hold + ANSWER).await;
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (0, 0));
        node.limits.sweep();
        assert_eq!(node.limits.peers(), 0);
        assert!(node.clone().demand(pod(1), false).await);
    });
}

#[test]
fn renewals_keep_their_pace_and_their_number() {
    let limits = Limits::new(UpstreamLimits { renewals: 2, ..UpstreamLimits::default() });
    let at = Duration::from_secs;
    let renew = |second| limits.renewal(10, at(6 * 3600), at(second));
    assert!(renew(0).is_none(), "nothing was saved up");
    let (one, two) = (renew(100).unwrap(), renew(100).unwrap());
    assert!(renew(100).is_none(), "two are under way");
    drop((one, two));
    assert!(renew(100).is_some() && renew(100).is_some(), "a second's, and one");
    assert!(renew(100).is_none());
    // 900 entries of a quarter of an hour: 4 a second.
    let many: Vec<_> = (0..9).filter_map(|_| limits.renewal(900, at(900), at(200)).map(drop)).collect();
    assert_eq!(many.len(), 5);
}

#[test]
fn whoever_waits_goes_before_renewals() {
    virtual_time(|| async {
        let node = Node::new(|_| Said::Yes);
        let renew = || node.limits.renewal(10, Duration::from_secs(3600), node.now());
        sleep(Duration::from_secs(1)).await;
        node.limits.throttled(Duration::ZERO, None, node.now());
        sleep(Duration::from_secs(1)).await;
        assert!(renew().is_some(), "there is a turn, and nobody waits");
        assert!(renew().is_none(), "a rate holds for renewals too");
        let demand = flood(&node, pod(1), 6);
        settled().await;
        assert_eq!((node.limits.in_flight(), node.limits.waiting()), (0, 6), "each is counted once");
        for _ in 0..4 {
            sleep(Duration::from_millis(300)).await;
            assert!(node.limits.waiting() > 0 && renew().is_none(), "demand waits");
        }
        for made in demand {
            assert!(made.await.unwrap());
        }
        sleep(Duration::from_secs(1)).await;
        assert!(renew().is_some());
    });
}

/// What one client of the property does.
#[derive(Debug, Clone, Copy)]
struct Client {
    peer: u8,
    accepted: bool,
    starts: u64,
    patience: u64,
    said: u8,
}

fn clients() -> impl Strategy<Value = Vec<Client>> {
    let client = (0_u8..6, any::<bool>(), 0_u64..3000, 0_u64..8000, 0_u8..12);
    let client = client.prop_map(|(peer, accepted, starts, patience, said)| Client {
        peer,
        accepted,
        starts,
        patience,
        said,
    });
    prop::collection::vec(client, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_budget_is_ever_exceeded_and_all_of_it_comes_back(clients in clients()) {
        virtual_time(|| async {
            let said = Rc::new(Cell::new(0_u8));
            let upstream = { let said = said.clone(); move |_| match said.get() {
                0..6 => Said::Yes,
                6..10 => Said::Refused,
                10 => Said::Fewer(None),
                _ => Said::Fewer(Some(Duration::from_secs(1))),
            }};
            let node = Node::new(upstream);
            let requests: Vec<_> = clients.iter().map(|client| {
                let (node, client, said) = (node.clone(), *client, said.clone());
                tokio::task::spawn_local(async move {
                    sleep(Duration::from_millis(client.starts)).await;
                    said.set(client.said);
                    let demand = node.clone().demand(pod(client.peer), client.accepted);
                    let _ = tokio::time::timeout(Duration::from_millis(client.patience), demand).await;
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
