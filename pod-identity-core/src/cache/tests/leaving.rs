//! What leaves the cache: evicted, forgotten, swept; and that nobody is served from it afterwards.

use super::*;

#[test]
fn the_longest_unasked_go_first() {
    let cache = cache(64);
    for number in 0..64u8 {
        let at = now(1000 + u64::from(number));
        lead(by_keys(&cache, &token(number.into()), number, at)).complete(at, Ok(issued(number, at, 36_000)));
    }
    // The oldest is asked for again; reading is what counts, not writing.
    assert!(matches!(by_keys(&cache, &token(0), 0, now(2000)), Begin::Hit(_)));
    let flying = lead(by_keys(&cache, &token(200), 200, now(2000)));
    assert!(cache.len() <= 64);
    assert!(matches!(by_keys(&cache, &token(0), 0, now(2001)), Begin::Hit(_)));
    assert!(matches!(by_keys(&cache, &token(63), 63, now(2001)), Begin::Hit(_)));
    assert!(
        matches!(by_keys(&cache, &token(1), 1, now(2001)), Begin::Lead(..)),
        "the longest unasked is gone"
    );
    flying.complete(now(2001), Ok(issued(200, now(2001), 3600)));
    assert!(matches!(by_keys(&cache, &token(200), 200, now(2001)), Begin::Hit(_)));
}

#[test]
fn a_full_cache_evicts_old_sessions_and_looks_at_few_for_each_new_one() {
    let sessions: SessionCache<u32, Credentials, Refused> =
        SessionCache::new(SessionCacheConfig { capacity: 20_000, serving: Serving::until_end(MARGIN) });
    let fill = |key: u32| {
        let at = now(1000 + u64::from(key));
        let SlotBegin::Lead(lead, _) = sessions.begin(&key, at) else { panic!("{key} is there already") };
        lead.complete(at, Ok(Credentials { identity: 7, serial: 0, expires_at: now(1_000_000).wall }));
        assert!(sessions.len() <= 20_000);
    };
    (0..25_000).for_each(fill);
    assert_eq!(sessions.len(), 20_000);
    let mut gone: Vec<u32> = (0..25_000).filter(|key| sessions.slots().get(key).is_none()).collect();
    gone.sort_unstable();
    // Exactly the oldest would be those below 5,000. Of 64, the oldest is among the first tenth nearly always.
    assert!(gone[gone.len() / 2] < 5000 && gone[gone.len() * 99 / 100] < 9000, "{gone:?}");
}

#[test]
fn a_flood_of_bad_tokens_leaves_nothing_behind() {
    let (cache, at) = (cache(10), now(1000));
    for number in 0..10_000 {
        if let Begin::Lead(lead, _) = by_acceptance(&cache, &token(number), at) {
            lead.complete(at, Err(Refused(Effect::RefusesToken)));
        }
    }
    assert!(cache.is_empty(), "a refused token makes no identity");
    assert!(cache.tokens().sizes().1 <= 4096);
    cache.sweep(now(1003));
    assert_eq!(cache.tokens().sizes(), (0, 0, 0));
}

#[test]
fn a_forgotten_identity_is_served_to_no_token_that_knew_the_way() {
    let (cache, at) = (cache(10), now(1000));
    for number in [1, 2] {
        match by_keys(&cache, &token(number), 7, at) {
            Begin::Lead(lead, _) => assert!(lead.complete(at, Ok(issued(7, at, 3600))).is_none()),
            begun => assert!(matches!(begun, Begin::Hit(_)), "{begun:?}"),
        }
    }
    cache.forget(&7);
    let leader = lead(by_keys(&cache, &token(1), 7, at));
    assert!(matches!(by_keys(&cache, &token(2), 7, at), Begin::Wait(_)), "both wait for one flight");
    leader.complete(at, Ok(issued(7, at, 7200)));
    for number in [1, 2] {
        let Begin::Hit(entry) = by_keys(&cache, &token(number), 7, at) else { panic!("token {number}") };
        assert_eq!(entry.value().expires_at, at.wall + Duration::from_secs(7200), "token {number}");
    }
}

#[tokio::test]
async fn what_was_being_fetched_when_it_was_forgotten_goes_to_those_who_wait_and_is_not_kept() {
    let (cache, at) = (cache(10), now(1000));
    let (before, waiter) = match by_keys(&cache, &token(1), 7, at) {
        Begin::Lead(lead, waiter) => (lead, waiter),
        other => panic!("{other:?}"),
    };
    cache.forget(&7);
    let after = lead(by_keys(&cache, &token(1), 7, at));
    before.complete(at, Ok(issued(7, at, 3600)));
    assert!(matches!(waiter.wait().await, Waited::Value(_)));
    assert!(matches!(by_keys(&cache, &token(1), 7, at), Begin::Wait(_)), "the flight after it goes on");
    after.complete(at, Ok(issued(7, at, 7200)));
    let Begin::Hit(entry) = by_keys(&cache, &token(1), 7, at) else { panic!() };
    assert_eq!(entry.value().expires_at, at.wall + Duration::from_secs(7200));
}

#[test]
fn a_token_whose_identity_was_evicted_leads_to_its_new_credentials() {
    let cache = cache(1);
    let hit =
        |number: u32, identity: u8, second: u64| match by_keys(&cache, &token(number), identity, now(second))
        {
            Begin::Hit(entry) => assert_eq!(entry.value().identity, identity),
            Begin::Lead(lead, _) => drop(lead.complete(now(second), Ok(issued(identity, now(second), 3600)))),
            other => panic!("{other:?}"),
        };
    for second in 1000..1010 {
        hit(1, 1, second);
        hit(2, 2, second); // there is room for one
    }
    assert_eq!(cache.len(), 1);
    assert!(matches!(by_keys(&cache, &token(2), 2, now(1010)), Begin::Hit(_)));
}
