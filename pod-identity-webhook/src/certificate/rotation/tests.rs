use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const WAIT: u64 = 60;
/// How often each replica looks at least, in seconds.
const TICK: u64 = 5;
/// When the next generation is due.
const DUE: u64 = 6 * WAIT;

fn authority(number: u32) -> Authority {
    number.to_be_bytes().to_vec().into()
}

fn standing(number: u32, settled: bool, due: bool) -> Standing {
    Standing { authority: authority(number), settled, due }
}

fn step(generations: &[Standing], bundle: &[u32], unchanged: u64, leads: bool) -> Step {
    let bundle: Vec<_> = bundle.iter().copied().map(authority).collect();
    let unchanged = Duration::from_secs(unchanged);
    next(generations, &[bundle.clone(), bundle], unchanged, Duration::from_secs(WAIT), leads)
}

#[test]
fn a_rotation_goes_from_step_to_step() {
    let (settled, new) = (standing(1, true, true), standing(2, false, false));
    assert_eq!(step(&[], &[], 0, true), Step::Make);
    assert_eq!(step(&[standing(1, false, false)], &[], 0, true), Step::Publish);
    assert_eq!(step(&[standing(1, false, false)], &[1], WAIT - 1, true), Step::Rest);
    assert_eq!(step(&[standing(1, false, false)], &[1], WAIT, true), Step::Settle);
    assert_eq!(step(&[standing(1, true, false)], &[1], 10 * WAIT, true), Step::Rest);
    assert_eq!(step(std::slice::from_ref(&settled), &[1], 0, true), Step::Make);
    assert_eq!(step(&[settled.clone(), new.clone()], &[1], 10 * WAIT, true), Step::Publish);
    assert_eq!(step(&[settled.clone(), new], &[1, 2], WAIT, true), Step::Settle);
    assert_eq!(step(&[settled, standing(2, true, false)], &[0, 1, 2], WAIT - 1, true), Step::Rest);
    assert_eq!(step(&[standing(2, true, false)], &[0, 1, 2], WAIT, true), Step::Trim);
}

#[test]
fn who_does_not_lead_mends_bundles_and_does_nothing_else() {
    let generations = [standing(1, true, true), standing(2, true, true)];
    assert_eq!(step(&generations, &[2, 1], 10 * WAIT, false), Step::Rest);
    assert_eq!(step(&generations, &[0, 1, 2], 10 * WAIT, false), Step::Rest);
    assert_eq!(step(&[], &[1], 0, false), Step::Rest);
    for bundle in [&[][..], &[1], &[2], &[7, 8]] {
        assert_eq!(step(&generations, bundle, 0, false), Step::Publish, "{bundle:?}");
    }
}

#[test]
fn one_bundle_of_several_that_lacks_an_authority_is_enough_to_mend_and_not_to_settle() {
    let generations = [standing(1, false, false)];
    let bundles = [vec![authority(1)], vec![]];
    let wait = Duration::from_secs(WAIT);
    assert_eq!(next(&generations, &bundles, wait, wait, true), Step::Publish);
    assert_eq!(Unchanged::default().look(&generations, &bundles, wait), Duration::ZERO);
}

#[test]
fn without_a_configuration_a_certificate_is_made_and_never_settled() {
    let wait = Duration::from_secs(WAIT);
    assert_eq!(next(&[], &[], wait, wait, true), Step::Make);
    assert_eq!(next(&[standing(1, false, true)], &[], 10 * wait, wait, true), Step::Rest);
}

#[test]
fn what_is_served_stays_until_something_newer_is_settled() {
    let (one, two) = (standing(1, true, false), standing(2, false, false));
    let serve = |generations: &[Standing], current: Option<u32>| {
        served(generations, current.map(authority).as_ref()).cloned()
    };
    assert_eq!(serve(&[one.clone(), two.clone()], None), Some(authority(1)));
    assert_eq!(serve(&[one, standing(2, true, false)], Some(1)), Some(authority(2)));
    assert_eq!(serve(std::slice::from_ref(&two), None), Some(authority(2)), "there is nothing else");
    assert_eq!(serve(&[two], Some(1)), None, "the Secret was lost: what is there is kept");
}

#[test]
fn the_wait_begins_again_where_a_bundle_was_seen_without() {
    let (generations, mut unchanged) = ([standing(1, false, false)], Unchanged::default());
    let (with, without) = ([vec![authority(1)]], [vec![]]);
    let mut look = |bundles: &[Vec<Authority>], at| {
        unchanged.look(&generations, bundles, Duration::from_secs(at)).as_secs()
    };
    assert_eq!((look(&with, 10), look(&with, 40)), (0, 30));
    assert_eq!((look(&without, 50), look(&with, 55), look(&with, 80)), (0, 0, 25));
}

/// A generation of the Secret.
#[derive(Debug, Clone)]
struct Made {
    number: u32,
    settled: bool,
    at: u64,
}

#[derive(Debug, Default)]
struct Replica {
    served: Option<Authority>,
    ready: bool,
    unchanged: Unchanged,
    looked: u64,
}

/// A write that is under way: what it was made of, and what it would write.
#[derive(Debug, Clone)]
enum Write {
    Secret { at_version: u64, generations: Vec<Made> },
    Bundles { at_version: u64, bundles: Vec<Vec<Authority>> },
}

/// Secret, configuration, replicas, and what API servers may hold.
#[derive(Debug)]
struct World {
    now: u64,
    secret: (u64, Vec<Made>),
    bundles: (u64, Vec<Vec<Authority>>),
    /// Since when the bundles were these, and whether somebody else had overwritten them.
    history: VecDeque<(u64, Vec<Vec<Authority>>, bool)>,
    replicas: Vec<Replica>,
    late: Vec<Write>,
    made: u32,
    rotations: u32,
}

impl World {
    fn new() -> Self {
        let bundles = vec![vec![]; 2];
        Self {
            now: 0,
            secret: (0, vec![]),
            bundles: (0, bundles.clone()),
            history: [(0, bundles, false)].into(),
            replicas: (0..3).map(|_| Replica::default()).collect(),
            late: vec![],
            made: 0,
            rotations: 0,
        }
    }

    /// One look of a replica; gives what it would write.
    fn look(&mut self, who: usize, leads: bool) -> Option<Write> {
        let (now, generations, bundles) = (self.now, self.secret.1.clone(), self.bundles.1.clone());
        let standings: Vec<_> =
            generations.iter().map(|one| standing(one.number, one.settled, now >= one.at + DUE)).collect();
        let of_secret: Vec<_> = standings.iter().map(|one| one.authority.clone()).collect();
        let replica = &mut self.replicas[who];
        replica.looked = now;
        if let Some(authority) = served(&standings, replica.served.as_ref()) {
            replica.served = Some(authority.clone());
        }
        let is_taken = |served| is_taken(served, &standings, &of_secret, &bundles);
        replica.ready |= replica.served.as_ref().is_some_and(is_taken);
        let unchanged = replica.unchanged.look(&standings, &bundles, Duration::from_secs(now));
        let to_all = |bundle: &dyn Fn(&[Authority]) -> Vec<Authority>| {
            let bundles = bundles.iter().map(|old| bundle(old)).collect();
            Some(Write::Bundles { at_version: self.bundles.0, bundles })
        };
        let at_version = self.secret.0;
        match next(&standings, &bundles, unchanged, Duration::from_secs(WAIT), leads) {
            Step::Rest => None,
            Step::Publish => to_all(&|old| published(old, &standings)),
            Step::Trim => to_all(&|old| trimmed(old, &standings)),
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

    /// Time passes, and nobody sleeps for longer than a tick.
    fn pass(&mut self, seconds: u64, leader: usize) {
        for _ in 0..seconds {
            self.now += 1;
            for who in 0..self.replicas.len() {
                if self.now - self.replicas[who].looked >= TICK {
                    let write = self.look(who, who == leader);
                    write.into_iter().for_each(|write| self.write(write));
                }
            }
        }
    }

    /// Each ready replica's certificate is one that each API server can verify, whichever of the bundles of the
    /// last minute it holds.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let oldest = self.now.saturating_sub(WAIT);
        while self.history.get(1).is_some_and(|(since, ..)| *since <= oldest) {
            self.history.pop_front();
        }
        for replica in self.replicas.iter().filter(|replica| replica.ready) {
            for (since, bundles, overwritten) in &self.history {
                // At the very beginning there is nothing that could be asked instead.
                let is_beginning = bundles.iter().all(Vec::is_empty);
                let served = replica.served.as_ref().unwrap();
                let holds = bundles.iter().all(|bundle| bundle.contains(served));
                prop_assert!(
                    holds || *overwritten || is_beginning,
                    "at {}: {served:?} is not in the bundles since {since}: {bundles:?}",
                    self.now
                );
            }
        }
        Ok(())
    }
}

/// What happens next, and how long after the last.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A replica looks and does what is to be done.
    Look(usize),
    /// It believes to lead, too.
    LookAsLeader(usize),
    /// It dies between reading and writing, and begins anew.
    Die(usize),
    /// Its write arrives later, or at an old version.
    Delay(usize),
    Arrive,
    Lead(usize),
    /// Somebody applies the manifest again.
    Overwrite,
    /// Somebody deletes the Secret.
    Lose,
}

fn events(accident: Event) -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = (0..3usize, 0..100u32).prop_map(move |(who, kind)| match kind {
        0..40 => Event::Look(who),
        40..60 => Event::LookAsLeader(who),
        60..70 => Event::Die(who),
        70..82 => Event::Delay(who),
        82..91 => Event::Arrive,
        91..98 => Event::Lead(who),
        _ => accident,
    });
    proptest::collection::vec((0..20u64, event), 100..400)
}

fn run(events: Vec<(u64, Event)>) -> Result<(), TestCaseError> {
    let (mut world, mut leader) = (World::new(), 0);
    for (pause, event) in events {
        world.pass(pause, leader);
        world.check()?;
        match event {
            Event::Look(who) => {
                let write = world.look(who, who == leader);
                write.into_iter().for_each(|write| world.write(write));
            }
            Event::LookAsLeader(who) => {
                let write = world.look(who, true);
                write.into_iter().for_each(|write| world.write(write));
            }
            Event::Die(who) => {
                world.look(who, true);
                world.replicas[who] = Replica { looked: world.now, ..Replica::default() };
            }
            Event::Delay(who) => {
                let write = world.look(who, true);
                world.late.extend(write);
            }
            Event::Arrive => {
                let late = std::mem::take(&mut world.late);
                late.into_iter().for_each(|write| world.write(write));
            }
            Event::Lead(who) => leader = who,
            Event::Overwrite => world.set(vec![vec![], vec![authority(1_000_000)]], true),
            Event::Lose => world.secret = (world.secret.0 + 1, vec![]),
        }
        world.check()?;
    }
    // Whatever has happened: with one leader and time it comes to rest, and goes on.
    let before = world.rotations;
    for _ in 0..4 * DUE {
        world.pass(1, leader);
        world.check()?;
    }
    prop_assert!(world.rotations > before, "it has stopped to rotate");
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
    // Each plays an hour or more.
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Replicas die in any step, believe to lead at once, write late; bundles are overwritten by others.
    #[test]
    fn no_api_server_meets_a_certificate_that_it_cannot_verify(events in events(Event::Overwrite)) {
        run(events)?;
    }

    /// The same where the Secret is deleted from time to time.
    #[test]
    fn nor_where_the_secret_is_lost(events in events(Event::Lose)) {
        run(events)?;
    }
}
