use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const WAIT: u64 = 60;
/// Maximum time between two rounds of a replica, in seconds.
const TICK: u64 = 5;
/// Time after which the next generation is due.
const DUE: u64 = 6 * WAIT;

fn authority(number: u32) -> Authority {
    number.to_be_bytes().to_vec().into()
}

fn status(number: u32, settled: bool, due: bool) -> GenerationStatus {
    GenerationStatus { authority: authority(number), settled, due }
}

fn step(generations: &[GenerationStatus], bundle: &[u32], unchanged: u64) -> Option<Step> {
    let bundle: Vec<_> = bundle.iter().copied().map(authority).collect();
    next(generations, &[bundle.clone(), bundle], Duration::from_secs(unchanged), Duration::from_secs(WAIT))
}

#[test]
fn rotation_goes_from_step_to_step() {
    let (settled, new) = (status(1, true, true), status(2, false, false));
    assert_eq!(step(&[], &[], 0), Some(Step::Make));
    assert_eq!(step(&[], &[1], 0), Some(Step::Make));
    assert_eq!(step(&[status(1, false, false)], &[], 0), Some(Step::Publish));
    assert_eq!(step(&[status(1, false, false)], &[1], WAIT - 1), None);
    assert_eq!(step(&[status(1, false, false)], &[1], WAIT), Some(Step::Settle));
    assert_eq!(step(&[status(1, true, false)], &[1], 10 * WAIT), None);
    assert_eq!(step(std::slice::from_ref(&settled), &[1], 0), Some(Step::Make));
    assert_eq!(step(&[settled.clone(), new.clone()], &[1], 10 * WAIT), Some(Step::Publish));
    assert_eq!(step(&[settled.clone(), new], &[1, 2], WAIT), Some(Step::Settle));
    assert_eq!(step(&[settled, status(2, true, false)], &[0, 1, 2], WAIT - 1), None);
    assert_eq!(step(&[status(2, true, false)], &[0, 1, 2], WAIT), Some(Step::Trim));
}

#[test]
fn repairs_an_overwritten_bundle_before_any_other_step() {
    let generations = [status(1, true, true), status(2, true, true)];
    for bundle in [&[][..], &[1], &[2], &[7, 8]] {
        assert_eq!(step(&generations, bundle, 10 * WAIT), Some(Step::Publish), "{bundle:?}");
    }
    assert_eq!(step(&generations, &[2, 1], 10 * WAIT), Some(Step::Make));
}

#[test]
fn repairs_and_does_not_settle_while_one_of_several_bundles_lacks_an_authority() {
    let generations = [status(1, false, false)];
    let bundles = [vec![authority(1)], vec![]];
    let wait = Duration::from_secs(WAIT);
    assert_eq!(next(&generations, &bundles, wait, wait), Some(Step::Publish));
    assert_eq!(Unchanged::default().observe(&generations, &bundles, wait), Duration::ZERO);
}

#[test]
fn makes_and_never_settles_without_a_bundle() {
    let wait = Duration::from_secs(WAIT);
    assert_eq!(next(&[], &[], wait, wait), Some(Step::Make));
    assert_eq!(next(&[status(1, false, true)], &[], 10 * wait, wait), None);
}

#[test]
fn serves_the_old_certificate_until_a_newer_one_is_settled() {
    let (one, two) = (status(1, true, false), status(2, false, false));
    let serve = |generations: &[GenerationStatus], current: Option<u32>| {
        served(generations, current.map(authority).as_ref()).cloned()
    };
    assert_eq!(serve(&[one.clone(), two.clone()], None), Some(authority(1)));
    assert_eq!(serve(&[one, status(2, true, false)], Some(1)), Some(authority(2)));
    assert_eq!(serve(std::slice::from_ref(&two), None), Some(authority(2)), "there is no other");
    assert_eq!(serve(&[two], Some(1)), None, "the Secret was lost: the served certificate stays");
}

#[test]
fn wait_begins_again_when_a_bundle_was_seen_without_the_authority() {
    let (generations, mut unchanged) = ([status(1, false, false)], Unchanged::default());
    let (with, without) = ([vec![authority(1)]], [vec![]]);
    let mut observe = |bundles: &[Vec<Authority>], at| {
        unchanged.observe(&generations, bundles, Duration::from_secs(at)).as_secs()
    };
    assert_eq!((observe(&with, 10), observe(&with, 40)), (0, 30));
    assert_eq!((observe(&without, 50), observe(&with, 55), observe(&with, 80)), (0, 0, 25));
}

/// A generation of the simulated Secret.
#[derive(Debug, Clone)]
struct Made {
    number: u32,
    settled: bool,
    at: u64,
}

/// The bundles with their version.
type Bundles = (u64, Vec<Vec<Authority>>);

#[derive(Debug, Default)]
struct Replica {
    served: Option<Authority>,
    ready: bool,
    unchanged: Unchanged,
    /// Time of its last round.
    looked: u64,
    /// The API server does not answer it until then.
    cut_off: u64,
    /// The bundles that it has read, and when, while it waits for the Secret.
    reading: Option<(u64, Bundles)>,
}

/// A write under way, at the version that it was computed from.
#[derive(Debug, Clone)]
enum Write {
    Secret { at_version: u64, generations: Vec<Made> },
    Bundles { at_version: u64, bundles: Vec<Vec<Authority>> },
}

/// The Secret, the bundles, the replicas, and the bundles that clients may hold.
#[derive(Debug)]
struct World {
    now: u64,
    secret: (u64, Vec<Made>),
    bundles: Bundles,
    /// Each version of the bundles with its time, and whether another program wrote it.
    history: VecDeque<(u64, Vec<Vec<Authority>>, bool)>,
    replicas: Vec<Replica>,
    late: Vec<Write>,
    made: u32,
    rotations: u32,
}

impl World {
    fn new(replicas: usize) -> Self {
        let bundles = vec![vec![]; 2];
        Self {
            now: 0,
            secret: (0, vec![]),
            bundles: (0, bundles.clone()),
            history: [(0, bundles, false)].into(),
            replicas: (0..replicas).map(|_| Replica::default()).collect(),
            late: vec![],
            made: 0,
            rotations: 0,
        }
    }

    /// One round of a replica. Returns the write that it sends.
    fn look(&mut self, who: usize) -> Option<Write> {
        if self.replicas[who].cut_off > self.now {
            return None;
        }
        self.replicas[who].reading = Some((self.now, self.bundles.clone()));
        self.act(who)
    }

    /// The second half of a round: the replica reads the Secret, and takes a step from it and the bundles that it read
    /// before.
    fn act(&mut self, who: usize) -> Option<Write> {
        let (now, generations) = (self.now, self.secret.1.clone());
        let (_, (bundle_version, bundles)) = self.replicas[who].reading.take()?;
        let statuses: Vec<_> =
            generations.iter().map(|one| status(one.number, one.settled, now >= one.at + DUE)).collect();
        let of_secret: Vec<_> = statuses.iter().map(|one| one.authority.clone()).collect();
        let replica = &mut self.replicas[who];
        replica.looked = now;
        if let Some(authority) = served(&statuses, replica.served.as_ref()) {
            replica.served = Some(authority.clone());
        }
        let is_trusted = |served| is_trusted(served, &statuses, &of_secret, &bundles);
        replica.ready |= replica.served.as_ref().is_some_and(is_trusted);
        let unchanged = replica.unchanged.observe(&statuses, &bundles, Duration::from_secs(now));
        let to_all = |bundle: &dyn Fn(&[Authority]) -> Vec<Authority>| {
            let bundles = bundles.iter().map(|old| bundle(old)).collect();
            Some(Write::Bundles { at_version: bundle_version, bundles })
        };
        let at_version = self.secret.0;
        match next(&statuses, &bundles, unchanged, Duration::from_secs(WAIT))? {
            Step::Publish => to_all(&|old| published(old, &statuses)),
            Step::Trim => to_all(&|old| trimmed(old, &statuses)),
            Step::Make => {
                self.made += 1;
                let new = Made { number: self.made, settled: false, at: now };
                let mut generations: Vec<_> = generations.into_iter().chain([new]).collect();
                generations.drain(..generations.len().saturating_sub(KEPT));
                Some(Write::Secret { at_version, generations })
            }
            Step::Settle => {
                let mut generations = generations;
                generations.last_mut()?.settled = true;
                Some(Write::Secret { at_version, generations })
            }
        }
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Secret { at_version, generations } if at_version == self.secret.0 => {
                self.rotations += u32::from(generations.iter().any(|one| one.settled));
                self.secret = (at_version + 1, generations);
            }
            Write::Bundles { at_version, bundles } if at_version == self.bundles.0 => {
                self.set(bundles, false);
            }
            _ => {} // a conflict
        }
    }

    fn set(&mut self, bundles: Vec<Vec<Authority>>, overwritten: bool) {
        self.bundles = (self.bundles.0 + 1, bundles.clone());
        self.history.push_back((self.now, bundles, overwritten));
    }

    /// Lets time pass. Each replica has a round at least once a tick, unless the API server does not answer it.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            for who in 0..self.replicas.len() {
                let (now, replica) = (self.now, &mut self.replicas[who]);
                replica.reading.take_if(|(began, _)| now - *began > READ_LIMIT);
                if replica.reading.is_none() && now - replica.looked >= TICK {
                    let write = self.look(who);
                    write.into_iter().for_each(|write| self.write(write));
                }
            }
        }
    }

    /// Checks that each client can verify each ready replica, with any of the bundles of the last minute.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let oldest = self.now.saturating_sub(WAIT);
        while self.history.get(1).is_some_and(|(since, ..)| *since <= oldest) {
            self.history.pop_front();
        }
        for replica in self.replicas.iter().filter(|replica| replica.ready) {
            for (since, bundles, overwritten) in &self.history {
                // At the first start no other replica could answer.
                let is_first_start = bundles.iter().all(Vec::is_empty);
                let served = replica.served.as_ref().unwrap();
                let holds = bundles.iter().all(|bundle| bundle.contains(served));
                prop_assert!(
                    holds || *overwritten || is_first_start,
                    "at {}: {served:?} is not in the bundles since {since}: {bundles:?}",
                    self.now
                );
            }
        }
        Ok(())
    }
}

/// Maximum time between the two reads of a round: the limits of both calls.
const READ_LIMIT: u64 = 10;

/// Maximum time for which the API server does not answer a replica: each replica has a round within a wait.
const CUT_OFF: u64 = WAIT - 2 * READ_LIMIT;

/// An event of the simulation.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A replica has a round.
    Look(usize),
    /// A replica reads the bundles, and has not read the Secret yet.
    ReadBundles(usize),
    /// It reads the Secret, and its write arrives at once or late.
    ReadSecret(usize, bool),
    /// A replica dies between reading and writing, and a new one starts.
    Die(usize),
    /// The write of a round is under way.
    Delay(usize),
    /// The writes under way arrive.
    Arrive,
    /// The API server does not answer a replica for some time.
    CutOff(usize),
    /// Another program overwrites the bundles.
    Overwrite,
    /// The Secret is deleted.
    Lose,
}

/// A number of replicas, and events with the time between them.
fn events(accident: Event) -> impl Strategy<Value = (usize, Vec<(u64, Event)>)> {
    let event = (0..5usize, 0..100u32).prop_map(move |(who, kind)| match kind {
        0..35 => Event::Look(who),
        35..45 => Event::ReadBundles(who),
        45..50 => Event::ReadSecret(who, false),
        50..55 => Event::ReadSecret(who, true),
        55..65 => Event::Die(who),
        65..80 => Event::Delay(who),
        80..93 => Event::Arrive,
        93..98 => Event::CutOff(who),
        _ => accident,
    });
    (1..=5usize, proptest::collection::vec((0..20u64, event), 100..400))
}

fn run((replicas, events): (usize, Vec<(u64, Event)>)) -> Result<(), TestCaseError> {
    let mut world = World::new(replicas);
    for (pause, event) in events {
        world.pass(pause);
        world.check()?;
        match event {
            Event::Look(who) => {
                let write = world.look(who % replicas);
                write.into_iter().for_each(|write| world.write(write));
            }
            Event::ReadBundles(who) if world.replicas[who % replicas].cut_off <= world.now => {
                world.replicas[who % replicas].reading = Some((world.now, world.bundles.clone()));
            }
            Event::ReadBundles(_) => {}
            Event::ReadSecret(who, late) => {
                let write = world.act(who % replicas);
                if late {
                    world.late.extend(write);
                } else {
                    write.into_iter().for_each(|write| world.write(write));
                }
            }
            Event::Die(who) => {
                world.look(who % replicas);
                world.replicas[who % replicas] = Replica { looked: world.now, ..Replica::default() };
            }
            Event::Delay(who) => {
                let write = world.look(who % replicas);
                world.late.extend(write);
            }
            Event::Arrive => {
                let late = std::mem::take(&mut world.late);
                late.into_iter().for_each(|write| world.write(write));
            }
            Event::CutOff(who) => {
                let replica = &mut world.replicas[who % replicas];
                // Twice in a row would be longer than a wait.
                if replica.cut_off + READ_LIMIT <= world.now {
                    replica.cut_off = world.now + CUT_OFF;
                }
            }
            Event::Overwrite => world.set(vec![vec![], vec![authority(1_000_000)]], true),
            Event::Lose => world.secret = (world.secret.0 + 1, vec![]),
        }
        world.check()?;
    }
    // Afterwards the rotation goes on.
    let before = world.rotations;
    for _ in 0..4 * DUE {
        world.pass(1);
        world.check()?;
    }
    prop_assert!(world.rotations > before, "rotation has stopped");
    let newest = world.secret.1.iter().rfind(|one| one.settled).map(|one| authority(one.number));
    for replica in &world.replicas {
        prop_assert!(replica.ready);
        let kept: Vec<_> = world.secret.1.iter().map(|one| authority(one.number)).collect();
        prop_assert!(
            replica.served == newest || kept.iter().rev().take(2).any(|one| Some(one) == newest.as_ref())
        );
    }
    prop_assert!(world.bundles.1.iter().all(|bundle| bundle.len() <= KEPT + 1), "{:?}", world.bundles);
    Ok(())
}

proptest! {
    // Each case plays an hour or more. PROPTEST_CASES sets another number.
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// All replicas act at once. They die in any step, read slowly and write late, and another program overwrites bundles.
    #[test]
    fn clients_can_verify_every_ready_replica_at_any_time(events in events(Event::Overwrite)) {
        run(events)?;
    }

    /// The same while the Secret is deleted from time to time.
    #[test]
    fn clients_can_verify_every_ready_replica_when_the_secret_is_deleted(events in events(Event::Lose)) {
        run(events)?;
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100)
}
