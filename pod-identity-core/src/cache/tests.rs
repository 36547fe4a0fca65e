#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::requests::{begin, token};
use super::*;
use crate::error::{CacheEffect, UpstreamError};
use crate::time::{Expires, Now};
use crate::token::PodToken;

mod model;
mod removal;
mod renewals;
mod sessions;
mod single_slot;
mod threads;
mod tokens;

/// Credentials with their identity, a serial number of their fetch, and their expiry.
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
struct Refused(CacheEffect);

impl UpstreamError for Refused {
    fn effect(&self) -> CacheEffect {
        self.0
    }
}

impl From<UnusableResponse> for Refused {
    fn from(answer: UnusableResponse) -> Self {
        Self(match answer {
            UnusableResponse::OtherIdentity { .. } => CacheEffect::CallFailed,
            UnusableResponse::Expired { .. } => CacheEffect::UnusableCredentials,
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

fn leader_of(begin: Begin<u8, Credentials, Refused>) -> Leader<u8, Credentials, Refused> {
    match begin {
        Begin::Lead(leader, _) => leader,
        other => panic!("{other:?} is no leader"),
    }
}

fn waiter(begin: Begin<u8, Credentials, Refused>) -> Waiter<Credentials, Refused> {
    match begin {
        Begin::Wait(waiter) | Begin::Lead(_, waiter) => waiter,
        other => panic!("{other:?} has no waiter"),
    }
}

#[test]
fn forged_token_reaches_no_entry_and_joins_no_flight() {
    let (cache, now) = (cache(10), now(1000));
    leader_of(by_acceptance(&cache, &token(1), now)).complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(by_acceptance(&cache, &token(1), now), Begin::Hit(_)));
    // Verified by the upstream: an unknown token has its own flight, whatever its claims are.
    let forged = leader_of(by_acceptance(&cache, &token(2), now));
    assert_eq!(forged.identity(), None);
    // Verified with keys: an invalid token makes no flight.
    assert!(matches!(begin(&cache, &token(3), now, || Err("forged")), Err("forged")));
}

#[tokio::test]
async fn response_for_another_identity_is_an_immediate_error_with_both_identities() {
    #[derive(Debug)]
    struct Unusable(String);
    impl UpstreamError for Unusable {
        fn effect(&self) -> CacheEffect {
            CacheEffect::CallFailed
        }
    }
    impl From<UnusableResponse> for Unusable {
        fn from(answer: UnusableResponse) -> Self {
            Self(answer.to_string())
        }
    }
    let cache: CredentialCache<u8, Credentials, Unusable> = CredentialCache::new(CacheConfig::default());
    let now = now(1000);
    let request = || begin(&cache, &token(1), now, || Ok::<_, ()>(Some((7, now.wall + MARGIN)))).unwrap();
    let Begin::Lead(leader, waiter) = request() else { panic!("no leader") };
    let error = leader.complete(now, Ok(issued(8, now, 3600))).unwrap();
    assert_eq!(
        error.0,
        "the upstream issued credentials for 8, want credentials for 7, the identity of the token"
    );
    assert!(matches!(waiter.wait().await, Waited::Refused(error) if error.0.contains("7")));
    for _ in 0..3 {
        assert!(matches!(request(), Begin::Refused(_)), "the error is not remembered");
    }
    let other = begin(&cache, &token(2), now, || Ok::<_, ()>(Some((8, now.wall + MARGIN))));
    assert!(matches!(other, Ok(Begin::Lead(..))), "the response was cached");
}

#[test]
fn expired_credentials_are_an_error_and_not_a_call_for_each_request() {
    for begin in [
        |cache: &Cache, now| by_keys(cache, &token(1), 7, now),
        |cache: &Cache, now| by_acceptance(cache, &token(1), now),
    ] {
        let (cache, mut calls) = (cache(10), 0);
        // Ten requests per second for five minutes. The credentials expire when they arrive.
        for request in 0..3000 {
            let now = now(1000 + request / 10);
            match begin(&cache, now) {
                Begin::Lead(leader, _) => {
                    calls += 1;
                    let error = leader.complete(now, Ok(issued(7, now, 0)));
                    assert_eq!(*error.unwrap(), Refused(CacheEffect::UnusableCredentials));
                }
                Begin::Refused(error) => assert_eq!(*error, Refused(CacheEffect::UnusableCredentials)),
                other => panic!("{other:?}"),
            }
        }
        assert!((8..=25).contains(&calls), "{calls} calls in five minutes");
        let later = now(1340);
        leader_of(begin(&cache, later)).complete(later, Ok(issued(7, later, 3600)));
        assert!(matches!(begin(&cache, later), Begin::Hit(_)), "the clock is correct again");
    }
}

#[tokio::test]
async fn failure_does_not_change_credentials_whose_fetch_began_later() {
    for effect in [
        CacheEffect::RefusesIdentity,
        CacheEffect::UnconfirmedRefusal,
        CacheEffect::CallFailed,
        CacheEffect::RefusesToken,
    ] {
        let cache = cache(10);
        let slow = by_keys(&cache, &token(1), 7, now(1000));
        let Begin::Lead(slow, waiter) = slow else { panic!("{slow:?}") };
        // Meanwhile there is a fetch with another token of the identity, which the upstream verifies.
        leader_of(by_acceptance(&cache, &token(2), now(1001)))
            .complete(now(1001), Ok(issued(7, now(1001), 3600)));
        slow.complete(now(1002), Err(Refused(effect)));
        let waited = waiter.wait().await;
        match effect {
            CacheEffect::RefusesToken => assert!(matches!(waited, Waited::Refused(_)), "{waited:?}"),
            _ => assert!(matches!(waited, Waited::Value(_)), "{effect:?}: {waited:?}"),
        }
        assert!(matches!(by_acceptance(&cache, &token(2), now(1002)), Begin::Hit(_)), "{effect:?}");
    }
}

#[test]
fn rotated_token_finds_the_entry_of_its_identity() {
    let (cache, now) = (cache(10), now(1000));
    leader_of(by_keys(&cache, &token(1), 7, now)).complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(by_keys(&cache, &token(2), 7, now), Begin::Hit(_)));
    // Without keys, the upstream must accept the token first, once.
    let second = leader_of(by_acceptance(&cache, &token(3), now));
    second.complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(by_acceptance(&cache, &token(3), now), Begin::Hit(_)));
}

#[test]
fn known_token_is_verified_again_after_the_keys_changed() {
    let (cache, now) = (cache(10), now(1000));
    leader_of(by_keys(&cache, &token(1), 7, now)).complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(begin(&cache, &token(1), now, || Err("verified again")), Ok(Begin::Hit(_))));
    cache.forget_tokens();
    assert!(matches!(begin(&cache, &token(1), now, || Err("withdrawn key")), Err("withdrawn key")));
    assert!(matches!(by_keys(&cache, &token(1), 7, now), Begin::Hit(_)), "the credentials stay");
}

#[test]
fn token_verified_with_old_keys_is_not_known_with_new_keys() {
    let (cache, now) = (cache(10), now(1000));
    let begun = leader_of(by_keys(&cache, &token(1), 7, now));
    cache.forget_tokens();
    begun.complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(begin(&cache, &token(1), now, || Err("withdrawn key")), Err("withdrawn key")));
    // The end of an old flight does not forget a token that was verified with the new keys.
    assert!(matches!(by_keys(&cache, &token(2), 8, now), Begin::Lead(..)));
    let begun = leader_of(by_keys(&cache, &token(2), 8, now));
    cache.forget_tokens();
    drop(waiter(by_keys(&cache, &token(2), 8, now)));
    begun.complete(now, Ok(issued(8, now, 3600)));
    assert!(matches!(begin(&cache, &token(2), now, || Err("verified again")), Ok(Begin::Hit(_))));
}

#[test]
fn expired_token_is_never_a_hit() {
    let (cache, at) = (cache(10), now(1000));
    let mut answer = issued(7, at, 3600);
    answer.token_expires_at = now(2000).wall;
    leader_of(by_acceptance(&cache, &token(1), at)).complete(at, Ok(answer));
    assert!(matches!(by_acceptance(&cache, &token(1), now(1999)), Begin::Hit(_)));
    assert!(matches!(by_acceptance(&cache, &token(1), now(2000)), Begin::Lead(..)));
}

#[tokio::test]
async fn all_waiters_get_the_same_error() {
    let (cache, now) = (cache(10), now(1000));
    let (leader, first) = match by_keys(&cache, &token(1), 7, now) {
        Begin::Lead(leader, waiter) => (leader, waiter),
        other => panic!("{other:?}"),
    };
    let second = waiter(by_keys(&cache, &token(2), 7, now));
    leader.complete(now, Err(Refused(CacheEffect::CallFailed)));
    assert!(matches!(first.wait().await, Waited::Refused(_)));
    assert!(matches!(second.wait().await, Waited::Refused(_)));
}

#[tokio::test]
async fn invalid_token_of_the_leader_does_not_fail_a_follower_with_a_valid_token() {
    let (cache, now) = (cache(10), now(1000));
    let leader = leader_of(by_keys(&cache, &token(1), 7, now));
    let follower = waiter(by_keys(&cache, &token(2), 7, now));
    leader.complete(now, Err(Refused(CacheEffect::RefusesToken)));
    assert!(matches!(follower.wait().await, Waited::Again));
    // The valid token leads now. The invalid one is refused without a call for a moment.
    assert!(matches!(by_keys(&cache, &token(1), 7, now), Begin::Refused(_)));
    let good = leader_of(by_keys(&cache, &token(2), 7, now));
    good.complete(now, Ok(issued(7, now, 3600)));
    assert!(matches!(by_keys(&cache, &token(1), 7, self::now(1003)), Begin::Hit(_)));
}

#[tokio::test]
async fn waiters_of_a_dropped_leader_begin_again() {
    let (cache, now) = (cache(10), now(1000));
    for verified in [true, false] {
        let begin = || {
            if verified { by_keys(&cache, &token(1), 7, now) } else { by_acceptance(&cache, &token(9), now) }
        };
        let leader = leader_of(begin());
        let follower = waiter(begin());
        drop(leader);
        assert!(matches!(follower.wait().await, Waited::Again));
        drop(leader_of(begin()));
    }
}

#[test]
fn refused_identity_loses_its_credentials_and_pauses_for_4_seconds_at_most() {
    let (cache, at) = (cache(10), now(1000));
    leader_of(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    let due = now(1000 + 2000);
    let [renewal] = cache.due(due).try_into().unwrap();
    renewal.leader.complete(due, Err(Refused(CacheEffect::RefusesIdentity)));
    assert!(matches!(by_keys(&cache, &token(1), 7, due), Begin::Refused(_)));
    let mut calls = 0;
    for second in 3000..3120 {
        if let Begin::Lead(leader, _) = by_keys(&cache, &token(1), 7, now(second)) {
            calls += 1;
            leader.complete(now(second), Err(Refused(CacheEffect::RefusesIdentity)));
        }
    }
    assert!((30..=60).contains(&calls), "{calls} calls in two minutes");
}

#[test]
fn unconfirmed_refusal_keeps_credentials_for_30_seconds() {
    let (cache, at) = (cache(10), now(1000));
    leader_of(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    let refuse = |second: u64| {
        for due in cache.due(now(second)) {
            due.leader.complete(now(second), Err(Refused(CacheEffect::UnconfirmedRefusal)));
        }
        matches!(by_keys(&cache, &token(1), 7, now(second)), Begin::Hit(_))
    };
    assert!(refuse(3000) && refuse(3003) && refuse(3010));
    assert!(!refuse(3060));
}

#[test]
fn slow_flight_does_not_replace_the_result_of_a_later_one() {
    let (cache, at) = (cache(10), now(1000));
    let slow = leader_of(by_acceptance(&cache, &token(1), at));
    let later = now(1001);
    leader_of(by_keys(&cache, &token(2), 7, later)).complete(later, Ok(issued(7, later, 3600)));
    slow.complete(now(1002), Ok(issued(7, later, 7200)));
    let Begin::Hit(entry) = by_keys(&cache, &token(2), 7, later) else { panic!() };
    assert_eq!(entry.value().expires_at, later.wall + Duration::from_secs(3600));
}

#[test]
fn token_that_the_upstream_refuses_is_no_longer_known() {
    let (cache, at) = (cache(10), now(1000));
    leader_of(by_acceptance(&cache, &token(1), at)).complete(at, Ok(issued(7, at, 3600)));
    let due = now(3000);
    let [renewal] = cache.due(due).try_into().unwrap();
    renewal.leader.complete(due, Err(Refused(CacheEffect::RefusesToken)));
    assert!(matches!(by_acceptance(&cache, &token(1), due), Begin::Refused(_)));
    // There are credentials, but this token is not accepted any more.
    assert_eq!(leader_of(by_acceptance(&cache, &token(1), now(3003))).identity(), None);
}

#[test]
fn sweep_keeps_the_record_of_a_refused_identity_for_30_seconds() {
    let cache = cache(10);
    leader_of(by_keys(&cache, &token(1), 7, now(1000)))
        .complete(now(1000), Err(Refused(CacheEffect::RefusesIdentity)));
    cache.sweep(now(1020));
    assert_eq!(cache.len(), 1, "the number of refusals is forgotten");
    cache.sweep(now(1040));
    assert_eq!(cache.len(), 0);
}
