//! Removal from the cache: eviction, forgetting and sweeping. Removed entries are never served.

use super::*;

#[test]
fn evicts_the_least_recently_requested_first() {
    let cache = cache(64);
    for number in 0..64u8 {
        let at = now(1000 + u64::from(number));
        leader_of(by_keys(&cache, &token(number.into()), number, at))
            .complete(at, Ok(issued(number, at, 36_000)));
    }
    // The oldest entry is requested again. Requests count, not writes.
    assert!(matches!(by_keys(&cache, &token(0), 0, now(2000)), Begin::Hit(_)));
    let flying = leader_of(by_keys(&cache, &token(200), 200, now(2000)));
    assert!(cache.len() <= 64);
    assert!(matches!(by_keys(&cache, &token(0), 0, now(2001)), Begin::Hit(_)));
    assert!(matches!(by_keys(&cache, &token(63), 63, now(2001)), Begin::Hit(_)));
    assert!(
        matches!(by_keys(&cache, &token(1), 1, now(2001)), Begin::Lead(..)),
        "the least recently requested entry was evicted"
    );
    flying.complete(now(2001), Ok(issued(200, now(2001), 3600)));
    assert!(matches!(by_keys(&cache, &token(200), 200, now(2001)), Begin::Hit(_)));
}

#[test]
fn full_cache_evicts_old_sessions_and_compares_few_for_each_new_one() {
    let sessions: SessionCache<u32, Credentials, Refused> =
        SessionCache::new(SessionCacheConfig { capacity: 20_000, serving: Serving::until_end(MARGIN) });
    let fill = |key: u32| {
        let at = now(1000 + u64::from(key));
        let SlotBegin::Lead(leader, _) = sessions.begin(&key, at) else { panic!("{key} is already cached") };
        leader.complete(at, Ok(Credentials { identity: 7, serial: 0, expires_at: now(1_000_000).wall }));
        assert!(sessions.len() <= 20_000);
    };
    (0..25_000).for_each(fill);
    assert_eq!(sessions.len(), 20_000);
    let mut gone: Vec<u32> = (0..25_000).filter(|key| sessions.slots().get(key).is_none()).collect();
    gone.sort_unstable();
    // With an exact order, the evicted keys would be those below 5,000. The oldest of 64 is nearly always among the
    // oldest tenth.
    assert!(gone[gone.len() / 2] < 5000 && gone[gone.len() * 99 / 100] < 9000, "{gone:?}");
}

#[test]
fn flood_of_invalid_tokens_leaves_no_records() {
    let (cache, at) = (cache(10), now(1000));
    for number in 0..10_000 {
        if let Begin::Lead(leader, _) = by_acceptance(&cache, &token(number), at) {
            leader.complete(at, Err(Refused(CacheEffect::RefusesToken)));
        }
    }
    assert!(cache.is_empty(), "a refused token made an identity");
    assert!(cache.tokens().sizes().1 <= 4096);
    cache.sweep(now(1003));
    assert_eq!(cache.tokens().sizes(), (0, 0, 0));
}

#[test]
fn forgotten_identity_is_not_served_to_its_known_tokens() {
    let (cache, at) = (cache(10), now(1000));
    for number in [1, 2] {
        match by_keys(&cache, &token(number), 7, at) {
            Begin::Lead(leader, _) => assert!(leader.complete(at, Ok(issued(7, at, 3600))).is_none()),
            begun => assert!(matches!(begun, Begin::Hit(_)), "{begun:?}"),
        }
    }
    cache.forget(&7);
    let leader = leader_of(by_keys(&cache, &token(1), 7, at));
    assert!(matches!(by_keys(&cache, &token(2), 7, at), Begin::Wait(_)), "both wait for one flight");
    leader.complete(at, Ok(issued(7, at, 7200)));
    for number in [1, 2] {
        let Begin::Hit(entry) = by_keys(&cache, &token(number), 7, at) else { panic!("token {number}") };
        assert_eq!(entry.value().expires_at, at.wall + Duration::from_secs(7200), "token {number}");
    }
}

#[tokio::test]
async fn entry_that_is_forgotten_during_its_fetch_goes_to_waiters_and_is_not_cached() {
    let (cache, at) = (cache(10), now(1000));
    let (before, waiter) = match by_keys(&cache, &token(1), 7, at) {
        Begin::Lead(leader, waiter) => (leader, waiter),
        other => panic!("{other:?}"),
    };
    cache.forget(&7);
    let after = leader_of(by_keys(&cache, &token(1), 7, at));
    before.complete(at, Ok(issued(7, at, 3600)));
    assert!(matches!(waiter.wait().await, Waited::Value(_)));
    assert!(matches!(by_keys(&cache, &token(1), 7, at), Begin::Wait(_)), "the next flight goes on");
    after.complete(at, Ok(issued(7, at, 7200)));
    let Begin::Hit(entry) = by_keys(&cache, &token(1), 7, at) else { panic!() };
    assert_eq!(entry.value().expires_at, at.wall + Duration::from_secs(7200));
}

#[test]
fn token_of_an_evicted_identity_finds_its_new_credentials() {
    let cache = cache(1);
    let hit =
        |number: u32, identity: u8, second: u64| match by_keys(&cache, &token(number), identity, now(second))
        {
            Begin::Hit(entry) => assert_eq!(entry.value().identity, identity),
            Begin::Lead(leader, _) => {
                drop(leader.complete(now(second), Ok(issued(identity, now(second), 3600))));
            }
            other => panic!("{other:?}"),
        };
    for second in 1000..1010 {
        hit(1, 1, second);
        hit(2, 2, second); // the capacity is one
    }
    assert_eq!(cache.len(), 1);
    assert!(matches!(by_keys(&cache, &token(2), 2, now(1010)), Begin::Hit(_)));
}
