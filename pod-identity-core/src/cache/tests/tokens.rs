//! Known, refused and unverified tokens: their lifetime and their number.

use super::*;

/// Returns the number of upstream calls for requests at these seconds. Each call has this effect.
fn calls(cache: &Cache, effect: CacheEffect, seconds: impl Iterator<Item = u64>) -> usize {
    calls_of(|now| by_keys(cache, &token(1), 7, now), effect, seconds)
}

fn calls_of(
    begin: impl Fn(Now) -> Begin<u8, Credentials, Refused>,
    effect: CacheEffect,
    seconds: impl Iterator<Item = u64>,
) -> usize {
    let leader = |second| match begin(now(second)) {
        Begin::Lead(leader, _) => Some((leader, second)),
        _ => None,
    };
    let mut calls = 0;
    for (leader, second) in seconds.filter_map(leader) {
        leader.complete(now(second), Err(Refused(effect)));
        calls += 1;
    }
    calls
}

#[test]
fn renewal_does_not_make_a_token_of_a_withdrawn_key_known_again() {
    let cache = cache(10);
    leader_of(by_keys(&cache, &token(1), 7, now(1000))).complete(now(1000), Ok(issued(7, now(1000), 3600)));
    cache.forget_tokens();
    let due = cache.due(now(3200)).pop().unwrap();
    due.leader.complete(now(3200), Ok(issued(7, now(3200), 3600)));
    assert!(cache.hit(&token(1).digest(), now(3201)).is_none());
    assert_eq!(
        begin(&cache, &token(1), now(3201), || Err("the key was withdrawn")).unwrap_err(),
        "the key was withdrawn"
    );
    assert!(
        matches!(by_keys(&cache, &token(2), 7, now(3201)), Begin::Hit(_)),
        "the credentials were dropped"
    );
}

#[test]
fn tokens_of_dropped_identities_are_forgotten() {
    let cache = cache(4);
    for number in 0..200 {
        let at = now(1000 + u64::from(number));
        let identity = u8::try_from(number).unwrap();
        leader_of(by_keys(&cache, &token(number), identity, at)).complete(at, Ok(issued(identity, at, 60)));
    }
    cache.sweep(now(5000));
    assert_eq!((cache.len(), cache.tokens().sizes()), (0, (0, 0, 0)));
}

#[test]
fn tokens_with_the_latest_expiry_of_an_identity_are_known() {
    let (cache, at) = (cache(10), now(1000));
    let ends = |number: u32| at.wall + Duration::from_secs(10_000 + u64::from(number));
    let request =
        |number: u32| begin(&cache, &token(number), at, || Ok::<_, ()>(Some((7, ends(number))))).unwrap();
    leader_of(request(500)).complete(at, Ok(issued(7, at, 3600)));
    for number in (0..1000).rev() {
        assert!(matches!(request(number), Begin::Hit(_)), "{number} is valid, known or not");
    }
    let known = |number: &u32| cache.known(&token(*number).digest(), at).is_some();
    assert_eq!((0..1000).filter(known).collect::<Vec<_>>(), (992..1000).collect::<Vec<_>>());
}

#[test]
fn known_token_without_credentials_is_not_a_call_for_each_request() {
    // Ten requests per second for half a minute, at whole seconds, because the pauses are longer than a tenth.
    let every_second = || (1000..1029).flat_map(|second| [second; 10]);
    let away = calls(&cache(10), CacheEffect::CallFailed, every_second());
    assert!((14..=29).contains(&away), "{away} calls");
    let unconfirmed = calls(&cache(10), CacheEffect::UnconfirmedRefusal, every_second());
    assert!((8..=15).contains(&unconfirmed), "{unconfirmed} calls");
    assert_eq!(
        calls(&cache(10), CacheEffect::CallFailed, [1000, 1002].into_iter()),
        2,
        "there is soon another call"
    );
}

#[test]
fn unverified_token_is_not_a_call_for_each_request_while_the_upstream_is_down() {
    let every_second = (1000..1029).flat_map(|second| [second; 10]);
    let cache = cache(10);
    let away = calls_of(|now| by_acceptance(&cache, &token(1), now), CacheEffect::CallFailed, every_second);
    assert!((14..=29).contains(&away), "{away} calls");
    // The failure is not about the token.
    assert!(matches!(by_keys(&cache, &token(1), 7, now(1029)), Begin::Lead(..)));
    cache.sweep(now(1040));
    assert_eq!(cache.tokens().sizes(), (0, 0, 0));
}

#[test]
fn records_of_tokens_are_bounded_and_expired_ones_are_replaced() {
    let fail = |cache: &Cache, numbers: std::ops::Range<u32>, now: Now, effect| {
        for number in numbers {
            leader_of(by_acceptance(cache, &token(number), now)).complete(now, Err(Refused(effect)));
        }
    };
    for effect in [CacheEffect::RefusesToken, CacheEffect::CallFailed] {
        let cache = cache(10);
        let remembered = || {
            let (known, refused, unverified) = cache.tokens().sizes();
            assert_eq!(known, 0);
            refused + unverified
        };
        fail(&cache, 0..5000, now(1000), effect);
        assert!((4095..=4096).contains(&remembered()), "{}", remembered());
        assert!(matches!(by_acceptance(&cache, &token(0), now(1000)), Begin::Refused(_)), "{effect:?}");
        // The limit is full of expired refusals. Without a sweep, the new ones are remembered.
        fail(&cache, 5000..5010, now(1005), effect);
        for number in 5000..5010 {
            let again = by_acceptance(&cache, &token(number), now(1005));
            assert!(matches!(again, Begin::Refused(_)), "{effect:?}: {again:?}");
        }
        assert!(remembered() <= 11, "{}", remembered());
    }
}
