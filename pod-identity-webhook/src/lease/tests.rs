use proptest::prelude::*;

use super::*;

const START: u64 = 1_800_000_000;

fn now(monotonic: Duration) -> Now {
    Now { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(START) + monotonic, monotonic }
}

fn seconds(seconds: u64) -> Now {
    now(Duration::from_secs(seconds))
}

/// The API server's side: one Lease, written by compare-and-swap.
#[derive(Debug, Default)]
struct Store {
    lease: Option<Lease>,
    version: u64,
}

impl Store {
    fn write(&mut self, mut lease: Lease) -> bool {
        let there = self.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if lease.metadata.resource_version != there {
            return false;
        }
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
        true
    }
}

fn round(candidate: &mut Candidate, store: &mut Store, now: Now) -> bool {
    let Some(lease) = candidate.look(store.lease.clone(), now) else { return false };
    let written = store.write(lease);
    if written {
        candidate.written(now.monotonic);
    }
    written
}

fn candidates() -> (Candidate, Candidate, Store) {
    (Candidate::new("a".to_owned()), Candidate::new("b".to_owned()), Store::default())
}

#[test]
fn the_first_creates_it_and_renews_it_and_the_second_waits() {
    let (mut a, mut b, mut store) = candidates();
    assert!(round(&mut a, &mut store, seconds(0)));
    for second in (0..300).step_by(5) {
        assert!(round(&mut a, &mut store, seconds(second)));
        assert!(!round(&mut b, &mut store, seconds(second + 1)));
    }
    let spec = store.lease.unwrap().spec.unwrap();
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_duration_seconds), (Some("a"), Some(15)));
    let time = |time: Option<MicroTime>| u64::try_from(time.unwrap().0.as_second()).unwrap() - START;
    assert_eq!((time(spec.acquire_time), time(spec.renew_time), spec.lease_transitions), (0, 295, Some(0)));
}

#[test]
fn it_is_taken_once_it_has_not_changed_for_its_duration_whatever_the_times_in_it_say() {
    let (mut a, mut b, mut store) = candidates();
    // The first one's clock is ten years ahead.
    let ahead = Now { wall: now(Duration::ZERO).wall + Duration::from_secs(315_360_000), ..seconds(0) };
    assert!(round(&mut a, &mut store, ahead));
    assert!(!round(&mut b, &mut store, seconds(7)));
    assert!(!round(&mut b, &mut store, seconds(21)), "seen for 14 s");
    assert!(round(&mut b, &mut store, seconds(22)), "seen for 15 s");
    assert_eq!(store.lease.as_ref().unwrap().spec.as_ref().unwrap().lease_transitions, Some(1));
    assert!(!round(&mut a, &mut store, seconds(23)));
    assert_eq!(a.leads_until, None);
}

#[test]
fn who_leads_stops_before_anybody_can_have_seen_it_unchanged_for_its_duration() {
    let (mut a, mut b, mut store) = candidates();
    // The other sees the write in the moment in which it was sent: sooner than it can be.
    assert!(round(&mut a, &mut store, seconds(0)) && !round(&mut b, &mut store, seconds(0)));
    let ends = a.leads_until.unwrap();
    assert!(!round(&mut b, &mut store, now(DURATION - Duration::from_millis(1))));
    assert!(round(&mut b, &mut store, now(DURATION)));
    assert!(ends + Duration::from_secs(5) <= DURATION, "{ends:?}");
}

#[test]
fn what_is_released_is_free_at_once_and_only_its_holder_releases() {
    let (mut a, mut b, mut store) = candidates();
    assert!(round(&mut a, &mut store, seconds(0)));
    assert_eq!(b.release(store.lease.clone().unwrap()), None);
    let released = a.release(store.lease.clone().unwrap()).unwrap();
    assert_eq!(a.leads_until, None);
    assert!(store.write(released));
    assert!(round(&mut b, &mut store, seconds(1)));
}

#[test]
fn a_lease_that_says_nothing_or_too_much_is_not_held_for_ever() {
    for (said, held) in [(None, 15), (Some(-1), 15), (Some(40), 40), (Some(i32::MAX), 120)] {
        let (_, mut b, mut store) = candidates();
        let spec = LeaseSpec {
            holder_identity: Some("a".to_owned()),
            lease_duration_seconds: said,
            ..LeaseSpec::default()
        };
        assert!(store.write(Lease { spec: Some(spec), ..Lease::default() }));
        assert!(!round(&mut b, &mut store, seconds(0)), "{said:?}");
        assert!(!round(&mut b, &mut store, seconds(held - 1)), "{said:?}");
        assert!(round(&mut b, &mut store, seconds(held)), "{said:?}");
    }
}

#[test]
fn a_write_at_an_old_version_gives_nothing() {
    let (mut a, mut b, mut store) = candidates();
    let (for_a, for_b) = (a.look(None, seconds(0)).unwrap(), b.look(None, seconds(0)).unwrap());
    assert!(store.write(for_b));
    assert!(!store.write(for_a), "both created it");
}

/// What happens to one round of a candidate: how long reading takes, then writing, then the answer, in tenths
/// of a second; whether the write arrives, and whether its answer does.
#[derive(Debug, Clone)]
struct Round {
    who: usize,
    pause: u64,
    read: u64,
    write: u64,
    answer: u64,
    arrives: bool,
    answered: bool,
    dies: bool,
}

fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let round = (0..3usize, 0..80u64, 0..60u64, 0..200u64, 0..60u64, any::<[u8; 3]>()).prop_map(
        |(who, pause, read, write, answer, [arrives, answered, dies])| Round {
            who,
            pause,
            read,
            write,
            answer,
            arrives: arrives > 40,
            answered: answered > 40,
            dies: dies < 8,
        },
    );
    proptest::collection::vec(round, 1..120)
}

proptest! {
    /// Each candidate's rounds follow one another, those of different ones overlap as they like: writes arrive
    /// late, or never, answers get lost, processes begin anew. Who believes to lead is alone with it.
    #[test]
    fn never_do_two_lead_at_once(rounds in rounds()) {
        enum Event { Read(Round), Write(Round, Box<Lease>, Duration), Answer(usize, Option<String>, Duration) }
        let mut queue: std::collections::BTreeMap<(u64, usize), Event> = std::collections::BTreeMap::new();
        let mut free = [0u64; 3];
        for (number, round) in rounds.into_iter().enumerate() {
            let at = free[round.who] + round.pause;
            free[round.who] = at + round.read + round.write + round.answer;
            queue.insert((at + round.read, number), Event::Read(round));
        }
        let mut candidates: Vec<_> = (0..3).map(|who| Candidate::new(format!("{who}"))).collect();
        let (mut store, mut starts) = (Store::default(), 3);
        while let Some(((at, number), event)) = queue.pop_first() {
            let time = Duration::from_millis(at * 100);
            match event {
                Event::Read(round) => {
                    if round.dies {
                        candidates[round.who] = Candidate::new(format!("{starts}"));
                        starts += 1;
                    }
                    if let Some(lease) = candidates[round.who].look(store.lease.clone(), now(time)) {
                        queue.insert((at + round.write, number), Event::Write(round, Box::new(lease), time));
                    }
                }
                Event::Write(round, lease, sent) => {
                    let identity = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
                    if round.arrives && store.write(*lease) && round.answered {
                        queue.insert((at + round.answer, number), Event::Answer(round.who, identity, sent));
                    }
                }
                // A process that has begun anew gets no answers of the one before.
                Event::Answer(who, identity, sent) => {
                    if identity.as_ref() == Some(&candidates[who].identity) {
                        candidates[who].written(sent);
                    }
                }
            }
            let leading = candidates.iter().filter(|one| one.leads_until.is_some_and(|until| time < until));
            prop_assert!(leading.count() <= 1, "at {time:?}");
        }
    }
}
