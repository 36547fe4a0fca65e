//! Every order of steps, as loom makes them, of two threads at the places where an order matters:
//! `RUSTFLAGS="--cfg loom" cargo test -p pod-identity-core --lib --target-dir target/loom interleavings`.
//!
//! A step is an operation on what `sync` shares. tokio's channel is one step at a time too: a waiter is
//! polled when all threads are through, and must have been told by then.
#![allow(clippy::unwrap_used)]

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::requests::begin;
use super::*;
use crate::error::{Effect, UpstreamError};
use crate::time::{Expires, Now};
use crate::token::PodToken;

/// Credentials of nobody, with an end.
#[derive(Debug)]
struct Session(SystemTime);

impl Expires for Session {
    fn expires_at(&self) -> SystemTime {
        self.0
    }
}

#[derive(Debug)]
struct Refused(Effect);

impl UpstreamError for Refused {
    fn effect(&self) -> Effect {
        self.0
    }
}

/// A key whose hash is always the same: loom repeats steps, and a random part of the map would be
/// another step each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u8);

impl Hash for Key {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl From<UnusableAnswer> for Refused {
    fn from(_: UnusableAnswer) -> Self {
        Self(Effect::CannotUse)
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

/// Parsed once: loom repeats the steps of a test many times.
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

/// Runs `check` for every order of steps with at most three switches away from a thread that could go on.
fn in_every_order(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// What a waiter has been told by now.
fn told(waiter: Waiter<Session, Refused>) -> Option<Waited<Session, Refused>> {
    let mut waiting = std::pin::pin!(waiter.wait());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match waiting.as_mut().poll(&mut context) {
        std::task::Poll::Ready(waited) => Some(waited),
        std::task::Poll::Pending => None,
    }
}

/// A renewal ahead of need and a request that finds nothing: the slot of a provider stands alone.
#[test]
fn a_renewal_ahead_and_a_request_have_one_leader_and_both_end_with_its_credentials() {
    in_every_order(|| {
        let slot = Arc::new(Slot::<Session, Refused>::default());
        let renewal = loom::thread::spawn({
            let slot = slot.clone();
            move || {
                let lead = slot.begin_ahead(now(1000), Duration::ZERO);
                lead.map(|lead| lead.complete(now(1001), Ok(until(5000)))).is_some()
            }
        });
        let (leads, waiter) = match slot.begin(None, now(1000), Serving::until_end(Duration::ZERO)) {
            SlotBegin::Hit(_) => (false, None),
            SlotBegin::Wait(waiter) => (false, Some(waiter)),
            SlotBegin::Lead(lead, waiter) => {
                lead.complete(now(1001), Ok(until(5000)));
                (true, Some(waiter))
            }
            other => panic!("{other:?}"),
        };
        // The renewal may have come after the request's: then it is a second one, and not at the same time.
        assert!(renewal.join().unwrap() || leads);
        assert!(waiter.is_none_or(|waiter| matches!(told(waiter), Some(Waited::Value(_)))));
        assert!(slot.peek(now(1002), Duration::ZERO, |_| ()).is_some());
    });
}

/// Two requests with a token that the upstream has yet to judge, and whoever leads completes at once.
#[test]
fn an_unverified_token_has_one_leader_and_both_requests_get_its_credentials() {
    in_every_order(|| {
        let (cache, leaders) = (credentials(), Arc::new(AtomicUsize::new(0)));
        let request = |cache: Credentials, leaders: Arc<AtomicUsize>| {
            let waiter = match begin(&cache, &token(), now(1000), || Ok::<_, ()>(None)).unwrap() {
                Begin::Hit(_) => return None,
                Begin::Wait(waiter) => waiter,
                Begin::Lead(lead, waiter) => {
                    leaders.fetch_add(1, Ordering::SeqCst);
                    lead.complete(now(1001), Ok(issued(5000)));
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
            assert!(matches!(told(waiter), Some(Waited::Value(_))));
        }
    });
}

/// The leader's token is refused while another token of the same identity waits.
#[test]
fn a_waiter_that_is_told_to_begin_again_leads_and_does_not_join_the_flight_that_failed() {
    in_every_order(|| {
        let cache = credentials();
        let [bad, good] = tokens();
        let begin = |cache: &Credentials, token: &PodToken| {
            begin(cache, token, now(1000), || Ok::<_, ()>(Some((Key(1), now(100_000).wall)))).unwrap()
        };
        let Begin::Lead(lead, _) = begin(&cache, bad) else { panic!("somebody leads already") };
        let Begin::Wait(waiter) = begin(&cache, good) else { panic!("a second leader") };
        let failing = loom::thread::spawn(move || {
            lead.complete(now(1001), Err(Refused(Effect::RefusesToken)));
        });
        loom::thread::yield_now();
        match told(waiter) {
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

/// A fetch fails while the next request comes: it is refused, or leads, and is never left waiting.
#[test]
fn a_request_beside_a_failing_fetch_is_told() {
    in_every_order(|| {
        let cache = sessions(10);
        let SlotBegin::Lead(lead, first) = cache.begin(&Key(1), now(1000)) else { panic!("no lead") };
        let failing = loom::thread::spawn(move || lead.complete(now(1001), Err(Refused(Effect::CannotAsk))));
        let begun = cache.begin(&Key(1), now(1001));
        failing.join().unwrap();
        match begun {
            SlotBegin::Refused(_) => {}
            SlotBegin::Wait(waiter) => assert!(matches!(told(waiter), Some(Waited::Refused(_)))),
            other => panic!("{other:?}"),
        }
        assert!(matches!(told(first), Some(Waited::Refused(_))));
        assert!(matches!(cache.begin(&Key(1), now(1001)), SlotBegin::Refused(_)));
    });
}

/// Whoever leads is dropped: at no time are there two, and nobody waits for a leader that is gone.
#[test]
fn a_leader_that_goes_makes_room_for_one_other() {
    in_every_order(|| {
        let (cache, leading) = (sessions(10), Arc::new(AtomicUsize::new(0)));
        let request = |cache: Arc<Sessions>, leading: Arc<AtomicUsize>| match cache.begin(&Key(1), now(1000))
        {
            SlotBegin::Wait(waiter) => Some(waiter),
            SlotBegin::Lead(lead, waiter) => {
                assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "two leaders");
                loom::thread::yield_now();
                leading.fetch_sub(1, Ordering::SeqCst);
                drop(lead);
                Some(waiter)
            }
            _ => panic!("there is nothing to serve"),
        };
        let other = loom::thread::spawn({
            let (cache, leading) = (cache.clone(), leading.clone());
            move || request(cache, leading)
        });
        let waiters = [request(cache, leading), other.join().unwrap()];
        for waiter in waiters.into_iter().flatten() {
            assert!(matches!(told(waiter), Some(Waited::Again)));
        }
    });
}

/// A request after the end of what is there, and a renewal that looked a moment before it.
#[test]
fn a_renewal_and_a_request_do_not_both_fetch() {
    in_every_order(|| {
        let cache = credentials();
        let first = begin(&cache, &token(), now(1000), || Ok::<_, ()>(Some((Key(1), now(100_000).wall))));
        let Ok(Begin::Lead(lead, _)) = first else { panic!("somebody leads already") };
        lead.complete(now(1000), Ok(issued(2000)));
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

/// Whichever comes first: what was forgotten is not served.
#[test]
fn what_is_forgotten_while_it_is_fetched_is_not_kept() {
    in_every_order(|| {
        let cache = sessions(10);
        let SlotBegin::Lead(lead, waiter) = cache.begin(&Key(1), now(1000)) else { panic!("no lead") };
        let forgetting = loom::thread::spawn({
            let cache = cache.clone();
            move || cache.forget(&Key(1))
        });
        lead.complete(now(1001), Ok(until(5000)));
        forgetting.join().unwrap();
        assert!(matches!(told(waiter), Some(Waited::Value(_))), "who waited has it");
        assert!(matches!(cache.begin(&Key(1), now(1002)), SlotBegin::Lead(..)));
    });
}

/// The keys change while a token is verified by the old ones.
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
        if let Ok(Begin::Lead(lead, _)) = begin(&cache, &token(), now(1000), || verify(&withdrawn)) {
            lead.complete(now(1001), Ok(issued(5000)));
        }
        rotating.join().unwrap();
        let after = begin(&cache, &token(), now(1002), || verify(&withdrawn));
        assert!(matches!(after, Err("withdrawn")), "{after:?}");
    });
}

/// A full cache makes room for another session while one is being asked for.
#[test]
fn eviction_does_not_take_a_flight_away() {
    in_every_order(|| {
        let cache = sessions(1);
        let SlotBegin::Lead(lead, _) = cache.begin(&Key(1), now(1000)) else { panic!("no lead") };
        lead.complete(now(1000), Ok(until(2000)));
        let other = loom::thread::spawn({
            let cache = cache.clone();
            move || matches!(cache.begin(&Key(2), now(3000)), SlotBegin::Lead(..))
        });
        let SlotBegin::Lead(lead, waiter) = cache.begin(&Key(1), now(3000)) else { panic!("no lead") };
        assert!(other.join().unwrap());
        assert!(matches!(cache.begin(&Key(1), now(3001)), SlotBegin::Wait(_)), "a second leader");
        lead.complete(now(3001), Ok(until(5000)));
        assert!(matches!(told(waiter), Some(Waited::Value(_))));
        assert!(matches!(cache.begin(&Key(1), now(3002)), SlotBegin::Hit(_)));
    });
}
