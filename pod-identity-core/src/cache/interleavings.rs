//! loom tests. They run every order of the steps of two threads where the order matters: `RUSTFLAGS="--cfg loom" cargo
//! test -p pod-identity-core --lib --target-dir target/loom interleavings`.
//!
//! A step is an operation on a primitive of `sync`. An operation on tokio's channel is one step, too: a waiter is
//! polled after all threads have ended, and must have its result by then.
#![allow(clippy::unwrap_used)]

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::requests::begin;
use super::*;
use crate::error::{CacheEffect, UpstreamError};
use crate::time::{Expires, Now};
use crate::token::PodToken;

/// Credentials with only an expiry.
#[derive(Debug)]
struct Session(SystemTime);

impl Expires for Session {
    fn expires_at(&self) -> SystemTime {
        self.0
    }
}

#[derive(Debug)]
struct Refused(CacheEffect);

impl UpstreamError for Refused {
    fn effect(&self) -> CacheEffect {
        self.0
    }
}

/// A key with a constant hash. loom repeats steps, and a random order of the map would change the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u8);

impl Hash for Key {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl From<UnusableResponse> for Refused {
    fn from(_: UnusableResponse) -> Self {
        Self(CacheEffect::UnusableCredentials)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

type Sessions = SessionCache<Key, Session, Refused>;
type Credentials = CredentialCache<Key, Session, Refused>;

const MARGIN: Duration = Duration::from_secs(15);

fn now(seconds: u64) -> Now {
    Now { wall: UNIX_EPOCH + Duration::from_secs(seconds), monotonic: Duration::from_secs(seconds) }
}

fn until(seconds: u64) -> Session {
    Session(now(seconds).wall)
}

fn sessions(capacity: usize) -> Arc<Sessions> {
    Arc::new(SessionCache::new(SessionCacheConfig { capacity, serving: Serving::until_end(MARGIN) }))
}

fn credentials() -> Credentials {
    CredentialCache::new(CacheConfig {
        capacity: 10,
        serving: Serving::until_end(MARGIN),
        remember_tokens: true,
    })
}

/// Parsed once, because loom repeats each test many times.
fn tokens() -> &'static [PodToken; 2] {
    static TOKENS: OnceLock<[PodToken; 2]> = OnceLock::new();
    TOKENS.get_or_init(|| [1, 2].map(super::requests::token))
}

fn token() -> PodToken {
    tokens()[0].clone()
}

fn issued(seconds: u64) -> Issued<Key, Session> {
    Issued { identity: Key(1), token_expires_at: now(100_000).wall, value: until(seconds) }
}

/// Runs `check` for every order of steps, with at most three preemptions.
fn in_every_order(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// Returns the result of a waiter, if it has one by now.
fn result(waiter: Waiter<Session, Refused>) -> Option<Waited<Session, Refused>> {
    let mut waiting = std::pin::pin!(waiter.wait());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match waiting.as_mut().poll(&mut context) {
        std::task::Poll::Ready(waited) => Some(waited),
        std::task::Poll::Pending => None,
    }
}

/// Provider slots have no map.
#[test]
fn renewal_ahead_and_request_have_one_leader_and_both_get_its_credentials() {
    in_every_order(|| {
        let slot = Arc::new(Slot::<Session, Refused>::default());
        let renewal = loom::thread::spawn({
            let slot = slot.clone();
            move || {
                let leader = slot.begin_ahead(now(1000), Duration::ZERO);
                leader.map(|leader| leader.complete(now(1001), Ok(until(5000)))).is_some()
            }
        });
        let (leads, waiter) = match slot.begin(None, now(1000), Serving::until_end(Duration::ZERO)) {
            SlotBegin::Hit(_) => (false, None),
            SlotBegin::Wait(waiter) => (false, Some(waiter)),
            SlotBegin::Lead(leader, waiter) => {
                leader.complete(now(1001), Ok(until(5000)));
                (true, Some(waiter))
            }
            other => panic!("{other:?}"),
        };
        // If the renewal began after the request had ended, it is a second fetch, but not a concurrent one.
        assert!(renewal.join().unwrap() || leads);
        assert!(waiter.is_none_or(|waiter| matches!(result(waiter), Some(Waited::Value(_)))));
        assert!(slot.peek(now(1002), Duration::ZERO, |_| ()).is_some());
    });
}

/// Two requests with an unverified token. The leader completes at once.
#[test]
fn unverified_token_has_one_leader_and_both_requests_get_its_credentials() {
    in_every_order(|| {
        let (cache, leaders) = (credentials(), Arc::new(AtomicUsize::new(0)));
        let request = |cache: Credentials, leaders: Arc<AtomicUsize>| {
            let waiter = match begin(&cache, &token(), now(1000), || Ok::<_, ()>(None)).unwrap() {
                Begin::Hit(_) => return None,
                Begin::Wait(waiter) => waiter,
                Begin::Lead(leader, waiter) => {
                    leaders.fetch_add(1, Ordering::SeqCst);
                    leader.complete(now(1001), Ok(issued(5000)));
                    waiter
                }
                other => panic!("{other:?}"),
            };
            Some(waiter)
        };
        let other = loom::thread::spawn({
            let (cache, leaders) = (cache.clone(), leaders.clone());
            move || request(cache, leaders)
        });
        let waiters = [request(cache, leaders.clone()), other.join().unwrap()];
        assert_eq!(leaders.load(Ordering::SeqCst), 1);
        for waiter in waiters.into_iter().flatten() {
            assert!(matches!(result(waiter), Some(Waited::Value(_))));
        }
    });
}

/// The leader's token is refused while another token of the same identity waits.
#[test]
fn waiter_that_begins_again_does_not_join_the_failed_flight() {
    in_every_order(|| {
        let cache = credentials();
        let [bad, good] = tokens();
        let begin = |cache: &Credentials, token: &PodToken| {
            begin(cache, token, now(1000), || Ok::<_, ()>(Some((Key(1), now(100_000).wall)))).unwrap()
        };
        let Begin::Lead(leader, _) = begin(&cache, bad) else { panic!("there is a leader already") };
        let Begin::Wait(waiter) = begin(&cache, good) else { panic!("a second leader") };
        let failing = loom::thread::spawn(move || {
            leader.complete(now(1001), Err(Refused(CacheEffect::RefusesToken)));
        });
        loom::thread::yield_now();
        match result(waiter) {
            Some(Waited::Again) => {
                let again = begin(&cache, good);
                assert!(matches!(again, Begin::Lead(..)), "{again:?}");
            }
            None => {}
            other => panic!("{other:?}"),
        }
        failing.join().unwrap();
    });
}

/// A fetch fails while the next request begins: the request is refused or leads, and never waits forever.
#[test]
fn request_during_a_failing_fetch_gets_a_result() {
    in_every_order(|| {
        let cache = sessions(10);
        let SlotBegin::Lead(leader, first) = cache.begin(&Key(1), now(1000)) else { panic!("no leader") };
        let failing =
            loom::thread::spawn(move || leader.complete(now(1001), Err(Refused(CacheEffect::CallFailed))));
        let begun = cache.begin(&Key(1), now(1001));
        failing.join().unwrap();
        match begun {
            SlotBegin::Refused(_) => {}
            SlotBegin::Wait(waiter) => assert!(matches!(result(waiter), Some(Waited::Refused(_)))),
            other => panic!("{other:?}"),
        }
        assert!(matches!(result(first), Some(Waited::Refused(_))));
        assert!(matches!(cache.begin(&Key(1), now(1001)), SlotBegin::Refused(_)));
    });
}

/// The leader is dropped. There are never two leaders, and no request waits for a dropped leader.
#[test]
fn dropped_leader_is_replaced_by_one_other() {
    in_every_order(|| {
        let (cache, leading) = (sessions(10), Arc::new(AtomicUsize::new(0)));
        let request = |cache: Arc<Sessions>, leading: Arc<AtomicUsize>| match cache.begin(&Key(1), now(1000))
        {
            SlotBegin::Wait(waiter) => Some(waiter),
            SlotBegin::Lead(leader, waiter) => {
                assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "two leaders");
                loom::thread::yield_now();
                leading.fetch_sub(1, Ordering::SeqCst);
                drop(leader);
                Some(waiter)
            }
            _ => panic!("the cache is empty"),
        };
        let other = loom::thread::spawn({
            let (cache, leading) = (cache.clone(), leading.clone());
            move || request(cache, leading)
        });
        let waiters = [request(cache, leading), other.join().unwrap()];
        for waiter in waiters.into_iter().flatten() {
            assert!(matches!(result(waiter), Some(Waited::Again)));
        }
    });
}

/// A request after the expiry, and a renewal that was due a moment before it.
#[test]
fn renewal_and_request_do_not_both_fetch() {
    in_every_order(|| {
        let cache = credentials();
        let first = begin(&cache, &token(), now(1000), || Ok::<_, ()>(Some((Key(1), now(100_000).wall))));
        let Ok(Begin::Lead(leader, _)) = first else { panic!("there is a leader already") };
        leader.complete(now(1000), Ok(issued(2000)));
        let renewing = loom::thread::spawn({
            let cache = cache.clone();
            move || cache.due(now(1984)).pop()
        });
        let begun = begin(&cache, &token(), now(1985), || Err(())).unwrap();
        let renewal = renewing.join().unwrap();
        match (&begun, &renewal) {
            (Begin::Wait(_), Some(_)) | (Begin::Lead(..), None) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn entry_that_is_forgotten_during_its_fetch_is_not_cached() {
    in_every_order(|| {
        let cache = sessions(10);
        let SlotBegin::Lead(leader, waiter) = cache.begin(&Key(1), now(1000)) else { panic!("no leader") };
        let forgetting = loom::thread::spawn({
            let cache = cache.clone();
            move || cache.forget(&Key(1))
        });
        leader.complete(now(1001), Ok(until(5000)));
        forgetting.join().unwrap();
        assert!(matches!(result(waiter), Some(Waited::Value(_))), "the waiter got no credentials");
        assert!(matches!(cache.begin(&Key(1), now(1002)), SlotBegin::Lead(..)));
    });
}

/// The keys change while a token is verified with the old ones.
#[test]
fn no_token_of_an_old_key_is_known_after_the_keys_changed() {
    in_every_order(|| {
        let (cache, withdrawn) = (credentials(), Arc::new(AtomicBool::new(false)));
        let verify = |withdrawn: &AtomicBool| {
            let known = (Key(1), now(100_000).wall);
            if withdrawn.load(Ordering::SeqCst) { Err("withdrawn") } else { Ok(Some(known)) }
        };
        let rotating = loom::thread::spawn({
            let (cache, withdrawn) = (cache.clone(), withdrawn.clone());
            move || {
                withdrawn.store(true, Ordering::SeqCst);
                cache.forget_tokens();
            }
        });
        if let Ok(Begin::Lead(leader, _)) = begin(&cache, &token(), now(1000), || verify(&withdrawn)) {
            leader.complete(now(1001), Ok(issued(5000)));
        }
        rotating.join().unwrap();
        let after = begin(&cache, &token(), now(1002), || verify(&withdrawn));
        assert!(matches!(after, Err("withdrawn")), "{after:?}");
    });
}

/// A full cache evicts for another session while a session is fetched.
#[test]
fn eviction_does_not_remove_a_flight() {
    in_every_order(|| {
        let cache = sessions(1);
        let SlotBegin::Lead(leader, _) = cache.begin(&Key(1), now(1000)) else { panic!("no leader") };
        leader.complete(now(1000), Ok(until(2000)));
        let other = loom::thread::spawn({
            let cache = cache.clone();
            move || matches!(cache.begin(&Key(2), now(3000)), SlotBegin::Lead(..))
        });
        let SlotBegin::Lead(leader, waiter) = cache.begin(&Key(1), now(3000)) else { panic!("no leader") };
        assert!(other.join().unwrap());
        assert!(matches!(cache.begin(&Key(1), now(3001)), SlotBegin::Wait(_)), "a second leader");
        leader.complete(now(3001), Ok(until(5000)));
        assert!(matches!(result(waiter), Some(Waited::Value(_))));
        assert!(matches!(cache.begin(&Key(1), now(3002)), SlotBegin::Hit(_)));
    });
}
