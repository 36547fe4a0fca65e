//! Sessions by key, and what is served when they are stale.

use super::*;

type Sessions = SessionCache<u8, Credentials, Refused>;

fn sessions(fresh_percent: u8) -> Sessions {
    SessionCache::new(SessionCacheConfig { capacity: 10, serving: Serving { margin: MARGIN, fresh_percent } })
}

fn credentials(serial: u64, now: Now) -> Credentials {
    Credentials { identity: 7, serial, expires_at: now.wall + Duration::from_secs(3600) }
}

fn lead_of(
    begin: SlotBegin<Credentials, Refused>,
) -> (SlotLead<Credentials, Refused>, Waiter<Credentials, Refused>) {
    match begin {
        SlotBegin::Lead(lead, waiter) => (lead, waiter),
        other => panic!("{other:?} is no lead"),
    }
}

fn fill(sessions: &Sessions, serial: u64, now: Now) {
    lead_of(sessions.begin(&7, now)).0.complete(now, Ok(credentials(serial, now)));
}

#[tokio::test]
async fn a_session_is_served_while_it_is_fresh_and_fetched_anew_after_that() {
    let sessions = sessions(20);
    fill(&sessions, 1, now(1000));
    assert!(matches!(sessions.begin(&7, now(1000 + 719)), SlotBegin::Hit(_)));
    let (lead, waiter) = lead_of(sessions.begin(&7, now(1000 + 721)));
    lead.complete(now(1722), Ok(credentials(2, now(1722))));
    assert!(matches!(waiter.wait().await, Waited::Value(entry) if entry.value().serial == 2));
}

#[test]
fn the_share_that_is_fresh_is_exact_for_the_longest_life_that_a_time_can_name() {
    let sessions = sessions(20);
    let life = i64::MAX.unsigned_abs() - 1000; // seconds: `SystemTime` holds no later end
    let end = now(1000).wall + Duration::from_secs(life);
    let endless = Credentials { identity: 7, serial: 1, expires_at: end };
    lead_of(sessions.begin(&7, now(1000))).0.complete(now(1000), Ok(endless));
    assert!(matches!(sessions.begin(&7, now(1000 + life / 5)), SlotBegin::Hit(_)));
    assert!(matches!(sessions.begin(&7, now(1000 + life / 5 + 1)), SlotBegin::Lead(..)));
}

#[tokio::test]
async fn a_stale_session_is_served_to_its_margin_while_the_upstream_cannot_be_asked() {
    let sessions = sessions(20);
    fill(&sessions, 1, now(1000));
    let (mut asked, mut served) = (0, 0);
    for second in 1721..4600 - 15 {
        match sessions.begin(&7, now(second)) {
            SlotBegin::Stale(entry) => assert_eq!(entry.value().serial, 1),
            SlotBegin::Lead(lead, waiter) => {
                asked += 1;
                lead.complete(now(second), Err(Refused(Effect::CannotAsk)));
                assert!(matches!(waiter.wait().await, Waited::Stale(entry) if entry.value().serial == 1));
            }
            other => panic!("{other:?} at {second}"),
        }
        served += 1;
    }
    assert_eq!(served, 4600 - 15 - 1721);
    assert!((75..=140).contains(&asked), "asked {asked} times in 48 minutes: pauses grow to 30 s");
    let (lead, waiter) = lead_of(sessions.begin(&7, now(4640)));
    lead.complete(now(4640), Err(Refused(Effect::CannotAsk)));
    assert!(matches!(waiter.wait().await, Waited::Refused(_)), "what has ended is not served");
}

#[tokio::test]
async fn an_answer_that_is_no_is_not_papered_over() {
    let sessions = sessions(20);
    fill(&sessions, 1, now(1000));
    let (lead, waiter) = lead_of(sessions.begin(&7, now(2000)));
    // Whoever does not wait for the fetch may have what is there, until the answer is.
    let read = |seconds| sessions.read(&7, now(seconds)).map(|entry| entry.value().serial);
    assert_eq!((read(2000), read(4584), read(4585)), (Some(1), Some(1), None));
    assert!(sessions.read(&8, now(2000)).is_none());
    lead.complete(now(2000), Err(Refused(Effect::RefusesIdentity)));
    assert_eq!(read(2000), None);
    assert!(matches!(waiter.wait().await, Waited::Refused(_)));
    assert!(matches!(sessions.begin(&7, now(2000)), SlotBegin::Refused(_)));
    // Nor later, when the upstream is away.
    let (lead, waiter) = lead_of(sessions.begin(&7, now(2002)));
    lead.complete(now(2002), Err(Refused(Effect::CannotAsk)));
    assert!(matches!(waiter.wait().await, Waited::Refused(_)));
}

#[tokio::test]
async fn what_is_dropped_while_it_is_fetched_is_given_to_those_who_wait_and_not_kept() {
    let (sessions, now) = (sessions(20), now(1000));
    let (lead, waiter) = lead_of(sessions.begin(&7, now));
    sessions.retain(|key| *key != 7);
    lead.complete(now, Ok(credentials(1, now)));
    assert!(matches!(waiter.wait().await, Waited::Value(_)));
    assert!(sessions.is_empty());
    assert!(matches!(sessions.begin(&7, now), SlotBegin::Lead(..)));
}

#[test]
fn only_what_is_to_be_kept_is_kept() {
    let (sessions, now) = (sessions(20), now(1000));
    assert!(sessions.is_empty());
    for key in [7, 8] {
        lead_of(sessions.begin(&key, now)).0.complete(now, Ok(credentials(1, now)));
    }
    assert!(!sessions.is_empty());
    sessions.retain(|key| *key == 7);
    assert!(matches!(sessions.begin(&7, now), SlotBegin::Hit(_)));
    assert!(matches!(sessions.begin(&8, now), SlotBegin::Lead(..)));
}
