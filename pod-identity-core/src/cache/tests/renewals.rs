//! Renewals ahead of the expiry.

use super::*;

#[test]
fn what_ends_first_is_renewed_first() {
    let (cache, at) = (cache(100), now(0));
    for number in 0..50_u8 {
        let lifetime = 3600 + u64::from(number) * 37 % 50 * 30;
        lead(by_keys(&cache, &token(number.into()), number, at))
            .complete(at, Ok(issued(number, at, lifetime)));
    }
    let lifetimes: Vec<_> = cache.due(now(3500)).iter().map(|due| due.lifetime).collect();
    assert_eq!(lifetimes.len(), 50);
    assert!(lifetimes.is_sorted(), "{lifetimes:?}");
}

#[test]
fn what_cannot_be_renewed_is_served_until_its_margin() {
    let (cache, at) = (cache(10), now(1000));
    lead(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    for second in (1000..4600 - 15).step_by(5) {
        for due in cache.due(now(second)) {
            due.lead.complete(now(second), Err(Refused(Effect::CannotAsk)));
        }
        assert!(matches!(by_keys(&cache, &token(1), 7, now(second)), Begin::Hit(_)), "at {second}");
    }
    assert!(matches!(by_keys(&cache, &token(1), 7, now(4585)), Begin::Lead(..)));
}

#[test]
fn renewal_comes_at_about_half_of_life_and_stops_with_the_interest() {
    let (cache, at) = (cache(10), now(0));
    lead(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    assert!(cache.due(now(1600)).is_empty());
    let due = cache.due(now(2000));
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].identity, due[0].lead.token().digest()), (7, token(1).digest()));
    assert_eq!(due[0].lifetime, Duration::from_secs(3600));
    assert!(cache.due(now(2000)).is_empty(), "one renewal at a time");
    for due in due {
        due.lead.complete(now(2000), Ok(issued(7, now(2000), 3600)));
    }
    // Asked for at 0 last: renewed once more at most, then left to end.
    let mut renewals = 0;
    for second in 2000..20_000 {
        for due in cache.due(now(second)) {
            renewals += 1;
            due.lead.complete(now(second), Ok(issued(7, now(second), 3600)));
        }
    }
    assert!(renewals <= 2, "{renewals} renewals for nobody");
    cache.sweep(now(20_000));
    assert!(cache.is_empty());
}

#[test]
fn a_renewal_that_is_shorter_than_what_it_renews_is_taken_and_not_repeated() {
    let (cache, at) = (cache(10), now(0));
    lead(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 6 * 3600)));
    let mut calls = 0;
    for second in 0..6 * 3600 {
        for due in cache.due(now(second)) {
            calls += 1;
            due.lead.complete(now(second), Ok(issued(7, now(second), 3600)));
        }
        by_keys(&cache, &token(1), 7, now(second));
    }
    assert!((4..=8).contains(&calls), "{calls} calls in six hours");
}

#[test]
fn a_token_that_is_refused_at_renewal_is_not_tried_every_second() {
    let (cache, at) = (cache(10), now(0));
    lead(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 6 * 3600)));
    let mut calls = 0;
    for second in 0..6 * 3600 - 20 {
        for due in cache.due(now(second)) {
            calls += 1;
            due.lead.complete(now(second), Err(Refused(Effect::RefusesToken)));
        }
    }
    assert_eq!(calls, 1, "the pod has not come with another token");
}

#[test]
fn a_hit_keeps_the_one_token_that_is_left_for_renewals() {
    let (cache, at) = (cache(10), now(0));
    let mut answer = issued(7, at, 3600);
    answer.token_expires_at = now(50_000).wall;
    lead(by_acceptance(&cache, &token(1), at)).complete(at, Ok(answer));
    assert!(matches!(by_keys(&cache, &token(2), 7, at), Begin::Hit(_)));
    // The newest is refused at the renewal; the other one is what the pod comes with.
    let [renewal] = cache.due(now(2000)).try_into().unwrap();
    assert_eq!(renewal.lead.token().digest(), token(2).digest());
    renewal.lead.complete(now(2000), Err(Refused(Effect::RefusesToken)));
    assert!(cache.due(now(2010)).is_empty(), "there is no token to renew with");
    assert!(matches!(by_acceptance(&cache, &token(1), now(2010)), Begin::Hit(_)));
    let [renewal] = cache.due(now(2010)).try_into().unwrap();
    assert_eq!(renewal.lead.token().digest(), token(1).digest());
}

#[test]
fn a_renewal_that_failed_is_not_due_before_its_pause_is_over() {
    let cache = cache(10);
    lead(by_keys(&cache, &token(1), 7, now(1000))).complete(now(1000), Ok(issued(7, now(1000), 3600)));
    let due = cache.due(now(3200)).pop().unwrap();
    due.lead.complete(now(3200), Err(Refused(Effect::CannotAsk)));
    let soon = Now { monotonic: Duration::from_millis(3_200_500), ..now(3200) };
    assert!(cache.due(soon).is_empty());
    assert_eq!(cache.due(now(3202)).len(), 1);
}

#[test]
fn a_renewal_that_brings_expired_credentials_leaves_those_that_hold() {
    let (cache, at) = (cache(10), now(1000));
    lead(by_keys(&cache, &token(1), 7, at)).complete(at, Ok(issued(7, at, 3600)));
    let due = now(3000);
    let [renewal] = cache.due(due).try_into().unwrap();
    assert!(renewal.lead.complete(due, Ok(issued(7, due, 0))).is_some());
    assert!(matches!(by_keys(&cache, &token(1), 7, due), Begin::Hit(_)));
}
