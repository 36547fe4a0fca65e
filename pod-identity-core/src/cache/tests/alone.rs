//! A slot that stands alone, as a provider of one identity's credentials has it.

use super::*;

type Alone = Arc<Slot<Credentials, Refused>>;

fn credentials(serial: u64, now: Now) -> Credentials {
    Credentials { identity: 7, serial, expires_at: now.wall + Duration::from_secs(3600) }
}

fn serial(slot: &Alone, now: Now) -> Option<u64> {
    slot.peek(now, Duration::ZERO, |entry| entry.value().serial)
}

#[tokio::test]
async fn it_is_filled_ahead_of_need_and_whoever_needs_it_meanwhile_waits() {
    let slot = Alone::default();
    assert_eq!(serial(&slot, now(1000)), None);
    let lead = slot.begin_ahead(now(1000), Duration::ZERO).unwrap();
    assert!(slot.begin_ahead(now(1000), Duration::ZERO).is_none(), "somebody fetches");
    let SlotBegin::Wait(waiter) = slot.begin(None, now(1001), Serving::until_end(Duration::ZERO)) else {
        panic!("a second leader")
    };
    lead.complete(now(1002), Ok(credentials(1, now(1002))));
    assert!(matches!(waiter.wait().await, Waited::Value(entry) if entry.value().serial == 1));
    // Ahead of need is whenever its owner says: long before half of its life too.
    let lead = slot.begin_ahead(now(1003), Duration::ZERO).unwrap();
    lead.complete(now(1004), Ok(credentials(2, now(1004))));
    assert_eq!(serial(&slot, now(1004)), Some(2));
    assert_eq!(serial(&slot, now(1004 + 3600)), None, "it has ended");
}

#[test]
fn after_a_failure_nobody_fetches_ahead_for_a_moment_and_what_holds_stays() {
    let slot = Alone::default();
    slot.begin_ahead(now(1000), Duration::ZERO).unwrap().complete(now(1000), Ok(credentials(1, now(1000))));
    slot.begin_ahead(now(2000), Duration::ZERO).unwrap().complete(now(2001), Err(Refused(Effect::CannotAsk)));
    assert!(slot.begin_ahead(now(2001), Duration::ZERO).is_none());
    assert_eq!(serial(&slot, now(2001)), Some(1));
    assert!(slot.begin_ahead(now(2003), Duration::ZERO).is_some(), "the first pause is 1.25 s at most");
}

#[test]
fn a_lead_that_is_dropped_leaves_the_slot_as_it_was() {
    let slot = Alone::default();
    drop(slot.begin_ahead(now(1000), Duration::ZERO));
    assert!(slot.begin_ahead(now(1000), Duration::ZERO).is_some());
}
