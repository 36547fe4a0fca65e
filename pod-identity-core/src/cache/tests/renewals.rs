//! Renewals ahead of the expiry.

use super::*;

#[test]
fn renews_the_earliest_expiry_first() {
    let (cache, at) = (cache(100), now(0));
    for number in 0..50_u8 {
        let lifetime = 3600 + u64::from(number) * 37 % 50 * 30;
        leader_of(by_keys(&cache, &token(number.into()), number, at))
            .complete(at, Ok(issued(number, at, lifetime)));
    }
    let lifetimes: Vec<_> = cache.due(now(3500)).iter().map(|due| due.lifetime).collect();
    assert_eq!(lifetimes.len(), 50);
    assert!(lifetimes.is_sorted(), "{lifetimes:?}");
}

#[test]
fn credentials_without_renewal_are_served_until_their_margin() {
    let (cache, at) = (cache(10), now(1000));
    leader_of(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    for second in (1000..4600 - 15).step_by(5) {
        for due in cache.due(now(second)) {
            due.leader.complete(now(second), Err(Refused(CacheEffect::CallFailed)));
        }
        assert!(matches!(by_keys(&cache, &token(1), 7, now(second)), Begin::Hit(_)), "at {second}");
    }
    assert!(matches!(by_keys(&cache, &token(1), 7, now(4585)), Begin::Lead(..)));
}

#[test]
fn renews_at_about_half_of_the_lifetime_while_there_are_requests() {
    let (cache, at) = (cache(10), now(0));
    leader_of(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    assert!(cache.due(now(1600)).is_empty());
    let due = cache.due(now(2000));
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].identity, due[0].leader.token().digest()), (7, token(1).digest()));
    assert_eq!(due[0].lifetime, Duration::from_secs(3600));
    assert!(cache.due(now(2000)).is_empty(), "a renewal is in progress");
    for due in due {
        due.leader.complete(now(2000), Ok(issued(7, now(2000), 3600)));
    }
    // The last request was at 1000, so there is at most one more renewal.
    let mut renewals = 0;
    for second in 2000..20_000 {
        for due in cache.due(now(second)) {
            renewals += 1;
            due.leader.complete(now(second), Ok(issued(7, now(second), 3600)));
        }
    }
    assert!(renewals <= 2, "{renewals} renewals without a request");
    cache.sweep(now(20_000));
    assert!(cache.is_empty());
}

#[test]
fn renewal_with_a_shorter_lifetime_replaces_and_is_not_repeated() {
    let (cache, at) = (cache(10), now(0));
    leader_of(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 6 * 3600)));
    let mut calls = 0;
    for second in 0..6 * 3600 {
        for due in cache.due(now(second)) {
            calls += 1;
            due.leader.complete(now(second), Ok(issued(7, now(second), 3600)));
        }
        by_keys(&cache, &token(1), 7, now(second));
    }
    assert!((4..=8).contains(&calls), "{calls} calls in six hours");
}

#[test]
fn token_that_is_refused_at_renewal_is_not_tried_every_second() {
    let (cache, at) = (cache(10), now(0));
    leader_of(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 6 * 3600)));
    let mut calls = 0;
    for second in 0..6 * 3600 - 20 {
        for due in cache.due(now(second)) {
            calls += 1;
            due.leader.complete(now(second), Err(Refused(CacheEffect::RefusesToken)));
        }
    }
    assert_eq!(calls, 1, "the pod has sent no other token");
}

#[test]
fn hit_stores_its_token_for_renewals_if_there_is_none() {
    let (cache, at) = (cache(10), now(0));
    let mut answer = issued(7, at, 3600);
    answer.token_expires_at = now(50_000).wall;
    leader_of(by_acceptance(&cache, &token(1), at)).complete(at, Ok(answer));
    assert!(matches!(by_keys(&cache, &token(2), 7, at), Begin::Hit(_)));
    // The newest token is refused at the renewal. The pod still sends the other one.
    let [renewal] = cache.due(now(2000)).try_into().unwrap();
    assert_eq!(renewal.leader.token().digest(), token(2).digest());
    renewal.leader.complete(now(2000), Err(Refused(CacheEffect::RefusesToken)));
    assert!(cache.due(now(2010)).is_empty(), "there is no token for renewals");
    assert!(matches!(by_acceptance(&cache, &token(1), now(2010)), Begin::Hit(_)));
    let [renewal] = cache.due(now(2010)).try_into().unwrap();
    assert_eq!(renewal.leader.token().digest(), token(1).digest());
}

#[test]
fn failed_renewal_is_due_again_after_its_pause() {
    let cache = cache(10);
    leader_of(by_keys(&cache, &token(1), 7, now(1000))).complete(now(1000), Ok(issued(7, now(1000), 3600)));
    let due = cache.due(now(3200)).pop().unwrap();
    due.leader.complete(now(3200), Err(Refused(CacheEffect::CallFailed)));
    let soon = Now { monotonic: Duration::from_millis(3_200_500), ..now(3200) };
    assert!(cache.due(soon).is_empty());
    assert_eq!(cache.due(now(3202)).len(), 1);
}

#[test]
fn renewal_with_expired_credentials_leaves_the_valid_ones() {
    let (cache, at) = (cache(10), now(1000));
    leader_of(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    let due = now(3000);
    let [renewal] = cache.due(due).try_into().unwrap();
    assert!(renewal.leader.complete(due, Ok(issued(7, due, 0))).is_some());
    assert!(matches!(by_keys(&cache, &token(1), 7, due), Begin::Hit(_)));
}
