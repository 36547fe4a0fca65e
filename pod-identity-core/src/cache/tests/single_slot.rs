//! A single slot without a map, as in a provider with one identity.

use super::*;

type SharedSlot = Arc<Slot<Credentials, Refused>>;

fn credentials(serial: u64, now: Now) -> Credentials {
    Credentials { identity: 7, serial, expires_at: now.wall + Duration::from_secs(3600) }
}

fn serial(slot: &SharedSlot, now: Now) -> Option<u64> {
    slot.peek(now, Duration::ZERO, |entry| entry.value().serial)
}

#[tokio::test]
async fn request_during_a_fetch_ahead_waits_for_it() {
    let slot = SharedSlot::default();
    assert_eq!(serial(&slot, now(1000)), None);
    let leader = slot.begin_ahead(now(1000), Duration::ZERO).unwrap();
    assert!(slot.begin_ahead(now(1000), Duration::ZERO).is_none(), "a fetch is in progress");
    let SlotBegin::Wait(waiter) = slot.begin(None, now(1001), Serving::until_end(Duration::ZERO)) else {
        panic!("a second leader")
    };
    leader.complete(now(1002), Ok(credentials(1, now(1002))));
    assert!(matches!(waiter.wait().await, Waited::Value(entry) if entry.value().serial == 1));
    // The owner decides when to fetch, even long before half of the lifetime.
    let leader = slot.begin_ahead(now(1003), Duration::ZERO).unwrap();
    leader.complete(now(1004), Ok(credentials(2, now(1004))));
    assert_eq!(serial(&slot, now(1004)), Some(2));
    assert_eq!(serial(&slot, now(1004 + 3600)), None, "the credentials have expired");
}

#[test]
fn failed_fetch_ahead_pauses_and_leaves_valid_credentials() {
    let slot = SharedSlot::default();
    slot.begin_ahead(now(1000), Duration::ZERO).unwrap().complete(now(1000), Ok(credentials(1, now(1000))));
    slot.begin_ahead(now(2000), Duration::ZERO)
        .unwrap()
        .complete(now(2001), Err(Refused(CacheEffect::CallFailed)));
    assert!(slot.begin_ahead(now(2001), Duration::ZERO).is_none());
    assert_eq!(serial(&slot, now(2001)), Some(1));
    assert!(slot.begin_ahead(now(2003), Duration::ZERO).is_some(), "the first pause is at most 1.25 s");
}

#[test]
fn dropped_leader_leaves_the_slot_unchanged() {
    let slot = SharedSlot::default();
    drop(slot.begin_ahead(now(1000), Duration::ZERO));
    assert!(slot.begin_ahead(now(1000), Duration::ZERO).is_some());
}
