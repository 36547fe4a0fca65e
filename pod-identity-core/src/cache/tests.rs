#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::requests::{begin, token};
use super::*;
use crate::error::{Effect, UpstreamError};
use crate::time::{Expires, Now};
use crate::token::PodToken;

mod alone;
mod leaving;
mod model;
mod renewals;
mod sessions;
mod threads;
mod tokens;

/// Credentials that say who made them, for whom and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Credentials {
    identity: u8,
    serial: u64,
    expires_at: SystemTime,
}

impl Expires for Credentials {
    fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused(Effect);

impl UpstreamError for Refused {
    fn effect(&self) -> Effect {
        self.0
    }
}

impl From<UnusableAnswer> for Refused {
    fn from(answer: UnusableAnswer) -> Self {
        Self(match answer {
            UnusableAnswer::OtherIdentity { .. } => Effect::CannotAsk,
            UnusableAnswer::Expired { .. } => Effect::CannotUse,
        })
    }
}

type Cache = CredentialCache<u8, Credentials, Refused>;

const MARGIN: Duration = Duration::from_secs(15);

fn cache(capacity: usize) -> Cache {
    CredentialCache::new(CacheConfig { capacity, serving: Serving::until_end(MARGIN), remember_tokens: true })
}

fn now(seconds: u64) -> Now {
    Now { wall: UNIX_EPOCH + Duration::from_secs(seconds), monotonic: Duration::from_secs(seconds) }
}

fn issued(identity: u8, now: Now, lifetime: u64) -> Issued<u8, Credentials> {
    let expires_at = now.wall + Duration::from_secs(lifetime);
    Issued {
        identity,
        token_expires_at: now.wall + Duration::from_secs(100_000),
        value: Credentials { identity, serial: 0, expires_at },
    }
}

fn by_acceptance(cache: &Cache, token: &PodToken, now: Now) -> Begin<u8, Credentials, Refused> {
    begin(cache, token, now, || Ok::<_, ()>(None)).unwrap()
}

fn by_keys(cache: &Cache, token: &PodToken, identity: u8, now: Now) -> Begin<u8, Credentials, Refused> {
    let expires_at = now.wall + Duration::from_secs(100_000);
    begin(cache, token, now, || Ok::<_, ()>(Some((identity, expires_at)))).unwrap()
}

fn lead(begin: Begin<u8, Credentials, Refused>) -> Lead<u8, Credentials, Refused> {
    match begin {
        Begin::Lead(lead, _) => lead,
        other => panic!("{other:?} is no lead"),
    }
}

fn waiter(begin: Begin<u8, Credentials, Refused>) -> Waiter<Credentials, Refused> {
    match begin {
        Begin::Wait(waiter) | Begin::Lead(_, waiter) => waiter,
        other => panic!("{other:?} waits for nothing"),
    }
}

#[test]
fn a_forged_token_reaches_no_entry_and_joins_no_flight() {
    let (cache, now) = (cache(10), now(1000));
    lead(by_acceptance(&cache, &token(1), now)).complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(by_acceptance(&cache, &token(1), now), Begin::Hit(_)));
    // By acceptance: an unknown token has a flight of its own, whatever it claims.
    let forged = lead(by_acceptance(&cache, &token(2), now));
    assert_eq!(forged.identity(), None);
    // By keys: what does not verify gets nowhere.
    assert!(matches!(begin(&cache, &token(3), now, || Err("forged")), Err("forged")));
}

#[tokio::test]
async fn an_answer_for_another_identity_is_an_error_at_once_that_names_both() {
    #[derive(Debug)]
    struct Unusable(String);
    impl UpstreamError for Unusable {
        fn effect(&self) -> Effect {
            Effect::CannotAsk
        }
    }
    impl From<UnusableAnswer> for Unusable {
        fn from(answer: UnusableAnswer) -> Self {
            Self(answer.to_string())
        }
    }
    let cache: CredentialCache<u8, Credentials, Unusable> = CredentialCache::new(CacheConfig::default());
    let now = now(1000);
    let request = || begin(&cache, &token(1), now, || Ok::<_, ()>(Some((7, now.wall + MARGIN)))).unwrap();
    let Begin::Lead(lead, waiter) = request() else { panic!("no lead") };
    let error = lead.complete(now, Ok(issued(8, now, 3600))).unwrap();
    assert_eq!(error.0, "the token is that of 7, and the upstream issued credentials for 8");
    assert!(matches!(waiter.wait().await, Waited::Refused(error) if error.0.contains("7")));
    for _ in 0..3 {
        assert!(matches!(request(), Begin::Refused(_)), "the error is remembered for a moment");
    }
    let other = begin(&cache, &token(2), now, || Ok::<_, ()>(Some((8, now.wall + MARGIN))));
    assert!(matches!(other, Ok(Begin::Lead(..))), "nothing is kept of the answer");
}

#[test]
fn expired_credentials_are_an_error_and_not_a_call_for_each_request() {
    for begin in [
        |cache: &Cache, now| by_keys(cache, &token(1), 7, now),
        |cache: &Cache, now| by_acceptance(cache, &token(1), now),
    ] {
        let (cache, mut calls) = (cache(10), 0);
        // Ten requests a second for five minutes; the credentials end when they arrive.
        for request in 0..3000 {
            let now = now(1000 + request / 10);
            match begin(&cache, now) {
                Begin::Lead(lead, _) => {
                    calls += 1;
                    let error = lead.complete(now, Ok(issued(7, now, 0)));
                    assert_eq!(*error.unwrap(), Refused(Effect::CannotUse));
                }
                Begin::Refused(error) => assert_eq!(*error, Refused(Effect::CannotUse)),
                other => panic!("{other:?}"),
            }
        }
        assert!((8..=25).contains(&calls), "{calls} calls in five minutes");
        let later = now(1340);
        lead(begin(&cache, later)).complete(later, Ok(issued(7, later, 3600)));
        assert!(matches!(begin(&cache, later), Begin::Hit(_)), "the clock is right again");
    }
}

#[tokio::test]
async fn a_failure_does_not_touch_credentials_whose_fetch_began_later() {
    for effect in [Effect::RefusesIdentity, Effect::DoubtsIdentity, Effect::CannotAsk, Effect::RefusesToken] {
        let cache = cache(10);
        let slow = by_keys(&cache, &token(1), 7, now(1000));
        let Begin::Lead(slow, waiter) = slow else { panic!("{slow:?}") };
        // Another token of the identity, which only the upstream judges, is fetched for meanwhile.
        lead(by_acceptance(&cache, &token(2), now(1001))).complete(now(1001), Ok(issued(7, now(1001), 3600)));
        slow.complete(now(1002), Err(Refused(effect)));
        let waited = waiter.wait().await;
        match effect {
            Effect::RefusesToken => assert!(matches!(waited, Waited::Refused(_)), "{waited:?}"),
            _ => assert!(matches!(waited, Waited::Value(_)), "{effect:?}: {waited:?}"),
        }
        assert!(matches!(by_acceptance(&cache, &token(2), now(1002)), Begin::Hit(_)), "{effect:?}");
    }
}

#[test]
fn a_rotated_token_finds_the_entry_of_its_identity() {
    let (cache, now) = (cache(10), now(1000));
    lead(by_keys(&cache, &token(1), 7, now)).complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(by_keys(&cache, &token(2), 7, now), Begin::Hit(_)));
    // Without keys the upstream has to accept it first, once.
    let second = lead(by_acceptance(&cache, &token(3), now));
    second.complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(by_acceptance(&cache, &token(3), now), Begin::Hit(_)));
}

#[test]
fn a_known_token_is_verified_again_after_the_keys_changed() {
    let (cache, now) = (cache(10), now(1000));
    lead(by_keys(&cache, &token(1), 7, now)).complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(begin(&cache, &token(1), now, || Err("not asked")), Ok(Begin::Hit(_))));
    cache.forget_tokens();
    assert!(matches!(begin(&cache, &token(1), now, || Err("withdrawn key")), Err("withdrawn key")));
    assert!(matches!(by_keys(&cache, &token(1), 7, now), Begin::Hit(_)), "the credentials stay");
}

#[test]
fn what_began_under_old_keys_is_not_known_under_the_new_ones() {
    let (cache, now) = (cache(10), now(1000));
    let begun = lead(by_keys(&cache, &token(1), 7, now));
    cache.forget_tokens();
    begun.complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(begin(&cache, &token(1), now, || Err("withdrawn key")), Err("withdrawn key")));
    // Nor does its end make a token unknown that was verified by the new ones.
    assert!(matches!(by_keys(&cache, &token(2), 8, now), Begin::Lead(..)));
    let begun = lead(by_keys(&cache, &token(2), 8, now));
    cache.forget_tokens();
    drop(waiter(by_keys(&cache, &token(2), 8, now)));
    begun.complete(now, Ok(issued(8, now, 3600)));
    assert!(matches!(begin(&cache, &token(2), now, || Err("not asked")), Ok(Begin::Hit(_))));
}

#[test]
fn an_expired_token_is_never_a_hit() {
    let (cache, at) = (cache(10), now(1000));
    let mut answer = issued(7, at, 3600);
    answer.token_expires_at = now(2000).wall;
    lead(by_acceptance(&cache, &token(1), at)).complete(at, Ok(answer));
    assert!(matches!(by_acceptance(&cache, &token(1), now(1999)), Begin::Hit(_)));
    assert!(matches!(by_acceptance(&cache, &token(1), now(2000)), Begin::Lead(..)));
}

#[tokio::test]
async fn one_error_answers_all_who_wait() {
    let (cache, now) = (cache(10), now(1000));
    let (lead, first) = match by_keys(&cache, &token(1), 7, now) {
        Begin::Lead(lead, waiter) => (lead, waiter),
        other => panic!("{other:?}"),
    };
    let second = waiter(by_keys(&cache, &token(2), 7, now));
    lead.complete(now, Err(Refused(Effect::CannotAsk)));
    assert!(matches!(first.wait().await, Waited::Refused(_)));
    assert!(matches!(second.wait().await, Waited::Refused(_)));
}

#[tokio::test]
async fn a_leader_with_a_bad_token_does_not_fail_a_follower_with_a_good_one() {
    let (cache, now) = (cache(10), now(1000));
    let leader = lead(by_keys(&cache, &token(1), 7, now));
    let follower = waiter(by_keys(&cache, &token(2), 7, now));
    leader.complete(now, Err(Refused(Effect::RefusesToken)));
    assert!(matches!(follower.wait().await, Waited::Again));
    // The good token leads now; the bad one is refused without a call, for a moment.
    assert!(matches!(by_keys(&cache, &token(1), 7, now), Begin::Refused(_)));
    let good = lead(by_keys(&cache, &token(2), 7, now));
    good.complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(by_keys(&cache, &token(1), 7, self::now(1003)), Begin::Hit(_)));
}

#[tokio::test]
async fn a_dropped_leader_lets_the_others_begin_again() {
    let (cache, now) = (cache(10), now(1000));
    for verified in [true, false] {
        let begin = || {
            if verified { by_keys(&cache, &token(1), 7, now) } else { by_acceptance(&cache, &token(9), now) }
        };
        let leader = lead(begin());
        let follower = waiter(begin());
        drop(leader);
        assert!(matches!(follower.wait().await, Waited::Again));
        drop(lead(begin()));
    }
}

#[test]
fn a_refused_identity_loses_its_credentials_and_is_asked_for_ever_less_often() {
    let (cache, at) = (cache(10), now(1000));
    lead(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    let due = now(1000 + 2000);
    let [renewal] = cache.due(due).try_into().unwrap();
    renewal.lead.complete(due, Err(Refused(Effect::RefusesIdentity)));
    assert!(matches!(by_keys(&cache, &token(1), 7, due), Begin::Refused(_)));
    let mut asked = 0;
    for second in 3000..3120 {
        if let Begin::Lead(lead, _) = by_keys(&cache, &token(1), 7, now(second)) {
            asked += 1;
            lead.complete(now(second), Err(Refused(Effect::RefusesIdentity)));
        }
    }
    assert!((4..=9).contains(&asked), "asked {asked} times in two minutes");
}

#[test]
fn a_doubted_identity_keeps_its_credentials_for_thirty_seconds() {
    let (cache, at) = (cache(10), now(1000));
    lead(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    let doubt = |second: u64| {
        for due in cache.due(now(second)) {
            due.lead.complete(now(second), Err(Refused(Effect::DoubtsIdentity)));
        }
        matches!(by_keys(&cache, &token(1), 7, now(second)), Begin::Hit(_))
    };
    assert!(doubt(3000) && doubt(3003) && doubt(3010));
    assert!(!doubt(3060));
}

#[test]
fn a_slow_flight_does_not_replace_what_a_later_one_brought() {
    let (cache, at) = (cache(10), now(1000));
    let slow = lead(by_acceptance(&cache, &token(1), at));
    let later = now(1001);
    lead(by_keys(&cache, &token(2), 7, later)).complete(later, Ok(issued(7, later, 3600)));
    slow.complete(now(1002), Ok(issued(7, later, 7200)));
    let Begin::Hit(entry) = by_keys(&cache, &token(2), 7, later) else { panic!() };
    assert_eq!(entry.value().expires_at, later.wall + Duration::from_secs(3600));
}

#[test]
fn a_token_that_the_upstream_refuses_is_judged_anew_and_not_known_any_more() {
    let (cache, at) = (cache(10), now(1000));
    lead(by_acceptance(&cache, &token(1), at)).complete(at, Ok(issued(7, at, 3600)));
    let due = now(3000);
    let [renewal] = cache.due(due).try_into().unwrap();
    renewal.lead.complete(due, Err(Refused(Effect::RefusesToken)));
    assert!(matches!(by_acceptance(&cache, &token(1), due), Begin::Refused(_)));
    // The credentials are there, but nobody has accepted this token any more.
    assert_eq!(lead(by_acceptance(&cache, &token(1), now(3003))).identity(), None);
}

#[test]
fn a_sweep_keeps_what_is_known_of_a_refused_identity_for_half_a_minute_more() {
    let cache = cache(10);
    lead(by_keys(&cache, &token(1), 7, now(1000))).complete(now(1000), Err(Refused(Effect::RefusesIdentity)));
    cache.sweep(now(1020));
    assert_eq!(cache.len(), 1, "how often it was refused is forgotten");
    cache.sweep(now(1040));
    assert_eq!(cache.len(), 0);
}
