//! Sessions by key, fresh and stale.

use super::*;

type Sessions = SessionCache<u8, Credentials, Refused>;

fn sessions(fresh_percent: u8) -> Sessions {
    SessionCache::new(SessionCacheConfig { capacity: 10, serving: Serving { margin: MARGIN, fresh_percent } })
}

fn credentials(serial: u64, now: Now) -> Credentials {
    Credentials { identity: 7, serial, expires_at: now.wall + Duration::from_secs(3600) }
}

fn leader_of(
    begin: SlotBegin<Credentials, Refused>,
) -> (SlotLeader<Credentials, Refused>, Waiter<Credentials, Refused>) {
    match begin {
        SlotBegin::Lead(leader, waiter) => (leader, waiter),
        other => panic!("{other:?} is no leader"),
    }
}

fn fill(sessions: &Sessions, serial: u64, now: Now) {
    leader_of(sessions.begin(&7, now)).0.complete(now, Ok(credentials(serial, now)));
}

#[tokio::test]
async fn fresh_session_is_served_and_stale_session_is_fetched_again() {
    let sessions = sessions(20);
    fill(&sessions, 1, now(1000));
    assert!(matches!(sessions.begin(&7, now(1000 + 719)), SlotBegin::Hit(_)));
    let (leader, waiter) = leader_of(sessions.begin(&7, now(1000 + 721)));
    leader.complete(now(1722), Ok(credentials(2, now(1722))));
    assert!(matches!(waiter.wait().await, Waited::Value(entry) if entry.value().serial == 2));
}

#[test]
fn fresh_percentage_is_exact_for_the_longest_lifetime() {
    let sessions = sessions(20);
    let lifetime = i64::MAX.unsigned_abs() - 1000; // seconds: the latest time of `SystemTime`
    let end = now(1000).wall + Duration::from_secs(lifetime);
    let endless = Credentials { identity: 7, serial: 1, expires_at: end };
    leader_of(sessions.begin(&7, now(1000))).0.complete(now(1000), Ok(endless));
    assert!(matches!(sessions.begin(&7, now(1000 + lifetime / 5)), SlotBegin::Hit(_)));
    assert!(matches!(sessions.begin(&7, now(1000 + lifetime / 5 + 1)), SlotBegin::Lead(..)));
}

#[tokio::test]
async fn stale_session_is_served_until_its_margin_while_the_upstream_is_down() {
    let sessions = sessions(20);
    fill(&sessions, 1, now(1000));
    let (mut calls, mut served) = (0, 0);
    for second in 1721..4600 - 15 {
        match sessions.begin(&7, now(second)) {
            SlotBegin::Stale(entry) => assert_eq!(entry.value().serial, 1),
            SlotBegin::Lead(leader, waiter) => {
                calls += 1;
                leader.complete(now(second), Err(Refused(CacheEffect::CallFailed)));
                assert!(matches!(waiter.wait().await, Waited::Stale(entry) if entry.value().serial == 1));
            }
            other => panic!("{other:?} at {second}"),
        }
        served += 1;
    }
    assert_eq!(served, 4600 - 15 - 1721);
    assert!((75..=140).contains(&calls), "{calls} calls in 48 minutes: pauses grow to 30 s");
    let (leader, waiter) = leader_of(sessions.begin(&7, now(4640)));
    leader.complete(now(4640), Err(Refused(CacheEffect::CallFailed)));
    assert!(matches!(waiter.wait().await, Waited::Refused(_)), "expired credentials were served");
}

#[tokio::test]
async fn refusal_drops_the_session() {
    let sessions = sessions(20);
    fill(&sessions, 1, now(1000));
    let (leader, waiter) = leader_of(sessions.begin(&7, now(2000)));
    // `read` returns the old session during the fetch, and nothing after the refusal.
    let read = |seconds| sessions.read(&7, now(seconds)).map(|entry| entry.value().serial);
    assert_eq!((read(2000), read(4584), read(4585)), (Some(1), Some(1), None));
    assert!(sessions.read(&8, now(2000)).is_none());
    leader.complete(now(2000), Err(Refused(CacheEffect::RefusesIdentity)));
    assert_eq!(read(2000), None);
    assert!(matches!(waiter.wait().await, Waited::Refused(_)));
    assert!(matches!(sessions.begin(&7, now(2000)), SlotBegin::Refused(_)));
    // The session also stays dropped while the upstream is down.
    let (leader, waiter) = leader_of(sessions.begin(&7, now(2002)));
    leader.complete(now(2002), Err(Refused(CacheEffect::CallFailed)));
    assert!(matches!(waiter.wait().await, Waited::Refused(_)));
}

#[tokio::test]
async fn session_that_is_dropped_during_its_fetch_goes_to_waiters_and_is_not_cached() {
    let (sessions, now) = (sessions(20), now(1000));
    let (leader, waiter) = leader_of(sessions.begin(&7, now));
    sessions.retain(|key| *key != 7);
    leader.complete(now, Ok(credentials(1, now)));
    assert!(matches!(waiter.wait().await, Waited::Value(_)));
    assert!(sessions.is_empty());
    assert!(matches!(sessions.begin(&7, now), SlotBegin::Lead(..)));
}

#[test]
fn retain_drops_only_sessions_for_which_it_returns_false() {
    let (sessions, now) = (sessions(20), now(1000));
    assert!(sessions.is_empty());
    for key in [7, 8] {
        leader_of(sessions.begin(&key, now)).0.complete(now, Ok(credentials(1, now)));
    }
    assert!(!sessions.is_empty());
    sessions.retain(|key| *key == 7);
    assert!(matches!(sessions.begin(&7, now), SlotBegin::Hit(_)));
    assert!(matches!(sessions.begin(&8, now), SlotBegin::Lead(..)));
}
