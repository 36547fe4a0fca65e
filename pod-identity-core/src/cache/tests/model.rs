//! The cache against a naive map, with arbitrary interleavings: the same answers, never two leaders of
//! a key, nobody who waits forgotten.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Begin { token: u32, keys: bool },
    Complete { flight: prop::sample::Index, lifetime: u64 },
    Fail { flight: prop::sample::Index, effect: Effect },
    Drop { flight: prop::sample::Index },
    Due,
    Clock { wall: i64, monotonic: u64 },
    ForgetTokens,
    Forget { identity: u8 },
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let flight = any::<prop::sample::Index>;
    let effect = prop_oneof![
        Just(Effect::RefusesToken),
        Just(Effect::RefusesIdentity),
        Just(Effect::CannotAsk),
        Just(Effect::DoubtsIdentity)
    ];
    let step = prop_oneof![
        6 => (0..12u32, any::<bool>()).prop_map(|(token, keys)| Step::Begin { token, keys }),
        3 => (flight(), 16..5000u64).prop_map(|(flight, lifetime)| Step::Complete { flight, lifetime }),
        1 => (flight(), effect).prop_map(|(flight, effect)| Step::Fail { flight, effect }),
        1 => flight().prop_map(|flight| Step::Drop { flight }),
        1 => Just(Step::Due),
        2 => (-2000..2000i64, 0..2000u64).prop_map(|(wall, monotonic)| Step::Clock { wall, monotonic }),
        1 => Just(Step::ForgetTokens),
        1 => (0..4u8).prop_map(|identity| Step::Forget { identity }),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..120)
}

/// A flight's key: what at most one leader may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Identity(u8),
    Token(u32),
    /// An identity's that was forgotten while it was being fetched; with a number of its own.
    Forgotten(u64),
}

/// The key, the token's number, the lead, when it began, and under which keys.
type Flight = (Key, u32, Lead<u8, Credentials, Refused>, Duration, u64);

/// What a naive implementation keeps: one map for each thing, and no cleverness.
struct Model {
    cache: Cache,
    now: Now,
    serial: u64,
    /// How often the keys have changed.
    keys: u64,
    /// token → (identity, end by the wall, end by the monotonic clock)
    known: HashMap<u32, (u8, SystemTime, Duration)>,
    /// Known tokens whose identity has been dropped since they were used last: a sweep forgets them.
    orphans: HashSet<u32>,
    /// identity → (credentials, end by the monotonic clock, begin of the fetch)
    entries: HashMap<u8, (Credentials, Duration, Duration)>,
    /// When each identity that the cache keeps was asked for last.
    asked: HashMap<u8, Duration>,
    capacity: usize,
    flights: Vec<Flight>,
    /// Those who wait, by the serial of the flight's key at that time.
    waiting: Vec<(Key, u32, Waiter<Credentials, Refused>)>,
}

/// Three tokens each for four identities.
fn identity_of(token: u32) -> u8 {
    u8::try_from(token % 4).unwrap()
}

impl Model {
    fn entry(&self, identity: u8) -> Option<&Credentials> {
        let (credentials, until, _) = self.entries.get(&identity)?;
        let live = self.now.wall + MARGIN < credentials.expires_at && self.now.monotonic + MARGIN < *until;
        live.then_some(credentials)
    }

    fn knows(&self, token: u32) -> bool {
        let known = self.known.get(&token);
        known.is_some_and(|(_, wall, monotonic)| self.now.wall < *wall && self.now.monotonic < *monotonic)
    }

    fn begin(&mut self, number: u32, keys: bool) {
        let identity = identity_of(number);
        let token_end = self.now.wall + Duration::from_secs(3000);
        let known = self.knows(number);
        let begun = begin(&self.cache, &token(number), self.now, || {
            assert!(!known, "a known token was verified again");
            Ok::<_, ()>(keys.then_some((identity, token_end)))
        });
        // A refused token is not asked about, let alone known.
        let refused = matches!(begun, Ok(Begin::Refused(_))) && self.refused_tokens(number);
        assert!(!known || !refused, "a refused token is known");
        if !known && keys && !refused {
            self.known.insert(number, (identity, token_end, self.now.monotonic + Duration::from_secs(3000)));
        }
        if !refused {
            self.orphans.remove(&number);
        }
        let key = if self.knows(number) { Key::Identity(identity) } else { Key::Token(number) };
        if let (Key::Identity(_), false) = (key, refused) {
            self.asked.insert(identity, self.now.monotonic);
            self.evicted();
        }
        let in_flight = self.flights.iter().any(|(of, ..)| *of == key);
        match begun.unwrap() {
            Begin::Hit(entry) => {
                assert_eq!(key, Key::Identity(identity), "a hit for a token that nobody accepted");
                assert_eq!(
                    Some(entry.value()),
                    self.entry(identity),
                    "a hit that is not there, or has ended"
                );
            }
            Begin::Wait(waiter) => {
                assert!(in_flight, "a wait for nobody");
                assert!(self.entry_of(key).is_none(), "a wait for what is there");
                self.waiting.push((key, number, waiter));
            }
            Begin::Lead(lead, waiter) => {
                assert!(!in_flight, "a second leader of {key:?}");
                assert!(self.entry_of(key).is_none(), "a fetch for what is there");
                assert_eq!(lead.token().digest(), token(number).digest());
                self.flights.push((key, number, lead, self.now.monotonic, self.keys));
                self.waiting.push((key, number, waiter));
            }
            // How long is a matter of chance; that there was a reason, the caller checks by effect.
            Begin::Stale(_) => panic!("entries are fresh until their margin"),
            Begin::Refused(_) => assert!(self.entry_of(key).is_none() || self.refused_tokens(number)),
        }
    }

    fn entry_of(&self, key: Key) -> Option<&Credentials> {
        match key {
            Key::Identity(identity) => self.entry(identity),
            Key::Token(_) | Key::Forgotten(_) => None,
        }
    }

    fn refused_tokens(&self, number: u32) -> bool {
        self.cache.refusal(&token(number).digest(), self.now).is_some()
    }

    /// A full cache makes room: of those that nobody fetches, whoever was asked for longest ago goes.
    fn evicted(&mut self) {
        let idle = |id: &u8| !self.flights.iter().any(|(of, ..)| *of == Key::Identity(*id));
        let (kept, gone): (Vec<u8>, Vec<u8>) =
            self.asked.keys().copied().partition(|id| self.cache.slots().get(id).is_some());
        for id in &gone {
            assert!(self.capacity <= kept.len(), "room was made where there was enough");
            assert!(idle(id), "a flight was evicted");
            let younger = kept.iter().filter(|id| idle(id)).all(|kept| self.asked[kept] >= self.asked[id]);
            assert!(younger, "{id} was evicted, which was asked for later than others");
        }
        for id in gone {
            self.drop_identity(id);
        }
    }

    fn drop_identity(&mut self, identity: u8) {
        self.asked.remove(&identity);
        self.entries.remove(&identity);
        self.orphans.extend((0..12).filter(|number| identity_of(*number) == identity));
    }

    fn take(&mut self, flight: prop::sample::Index) -> Option<Flight> {
        (!self.flights.is_empty()).then(|| self.flights.remove(flight.index(self.flights.len())))
    }

    fn complete(&mut self, (key, number, lead, begun, keys): Flight, lifetime: u64) {
        let identity = identity_of(number);
        self.serial += 1;
        let expires_at = self.now.wall + Duration::from_secs(lifetime);
        let value = Credentials { identity, serial: self.serial, expires_at };
        let token_expires_at = self.now.wall + Duration::from_secs(3000);
        lead.complete(self.now, Ok(Issued { identity, token_expires_at, value: value.clone() }));
        if let Key::Token(_) = key {
            self.asked.entry(identity).or_insert(self.now.monotonic);
            self.evicted();
        }
        let later = self.entries.get(&identity).is_some_and(|(.., of_kept)| *of_kept > begun);
        if !later && !matches!(key, Key::Forgotten(_)) {
            self.entries.insert(identity, (value, self.now.monotonic + Duration::from_secs(lifetime), begun));
        }
        // What began under old keys proves nothing under the new ones; and a token that is known, or was
        // forgotten with its keys, or was just refused, is not made known by what an upstream says.
        let refused = self.refused_tokens(number);
        if keys == self.keys && matches!(key, Key::Token(_)) && !refused {
            self.orphans.remove(&number);
            let end = self.now.monotonic + Duration::from_secs(3000);
            self.known.insert(number, (identity, token_expires_at, end));
        }
        self.landed(key, |waited, _| match waited {
            Some(Waited::Value(entry)) => assert_eq!(entry.value().identity, identity),
            other => panic!("{other:?} after a success"),
        });
    }

    fn fail(&mut self, (key, number, lead, begun, _): Flight, effect: Effect) {
        let before = self.entry(identity_of(number)).cloned();
        let newer = matches!(key, Key::Identity(_))
            && before.is_some()
            && self.entries.get(&identity_of(number)).is_some_and(|(.., of_kept)| *of_kept > begun);
        lead.complete(self.now, Err(Refused(effect)));
        if let (Key::Identity(identity), Effect::RefusesIdentity, false) = (key, effect, newer) {
            self.entries.remove(&identity);
        }
        // A token that was refused has to be judged anew.
        if effect == Effect::RefusesToken || (matches!(key, Key::Token(_)) && effect != Effect::CannotAsk) {
            self.known.remove(&number);
        }
        if effect == Effect::DoubtsIdentity && before.is_some() {
            // Whether it was dropped depends on how long it has been doubted: the cache is asked.
            let identity = identity_of(number);
            let kept = self.cache.slots().get(&identity).and_then(|slot| slot.read(self.now, MARGIN));
            if kept.is_none() {
                self.entries.remove(&identity);
            }
        }
        self.landed(key, |waited, token| match waited {
            Some(Waited::Refused(_)) => assert!(effect != Effect::RefusesToken || token == number),
            // The wall clock was set back meanwhile: what is there holds again.
            Some(Waited::Value(entry)) if newer && effect != Effect::RefusesToken => {
                assert_eq!(Some(entry.value()), before.as_ref());
            }
            Some(Waited::Stale(entry)) => {
                assert!(matches!(effect, Effect::CannotAsk | Effect::DoubtsIdentity));
                assert_eq!(Some(entry.value()), before.as_ref());
            }
            Some(Waited::Again) => assert!(effect == Effect::RefusesToken && token != number),
            other => panic!("{other:?} after a refusal"),
        });
    }

    /// Everybody who waited for that flight has been told.
    fn landed(&mut self, key: Key, check: impl Fn(Option<Waited<Credentials, Refused>>, u32)) {
        let (of_it, others) = std::mem::take(&mut self.waiting).into_iter().partition(|(of, ..)| *of == key);
        self.waiting = others;
        for (_, token, waiter) in of_it {
            check(poll_once(waiter), token);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Begin { token, keys } => self.begin(token, keys),
            Step::Complete { flight, lifetime } => {
                if let Some(flight) = self.take(flight) {
                    self.complete(flight, lifetime);
                }
            }
            Step::Fail { flight, effect } => {
                if let Some(flight) = self.take(flight) {
                    self.fail(flight, effect);
                }
            }
            Step::Drop { flight } => {
                if let Some((key, _, lead, ..)) = self.take(flight) {
                    drop(lead);
                    self.landed(key, |waited, _| {
                        assert!(matches!(waited, Some(Waited::Again)), "{waited:?}");
                    });
                }
            }
            Step::Due => {
                for due in self.cache.due(self.now) {
                    let key = Key::Identity(due.identity);
                    assert!(!self.flights.iter().any(|(of, ..)| *of == key), "a renewal beside a fetch");
                    assert!(self.entry(due.identity).is_some(), "a renewal of nothing");
                    let number =
                        (0..12).find(|number| token(*number).digest() == due.lead.token().digest()).unwrap();
                    assert_eq!(identity_of(number), due.identity, "a renewal with another pod's token");
                    self.flights.push((key, number, due.lead, self.now.monotonic, self.keys));
                }
            }
            Step::Clock { wall, monotonic } => {
                let wall_step = Duration::from_secs(wall.unsigned_abs());
                let set = if wall < 0 {
                    self.now.wall.checked_sub(wall_step)
                } else {
                    self.now.wall.checked_add(wall_step)
                };
                self.now.wall = set.unwrap();
                self.now.monotonic += Duration::from_secs(monotonic);
            }
            Step::ForgetTokens => {
                self.cache.forget_tokens();
                self.known.clear();
                self.keys += 1;
            }
            Step::Forget { identity } => self.forget(identity),
            Step::Sweep => self.sweep(),
        }
    }

    /// Forgetting lets a new leader in beside one that is fetching; what that one brings is not kept.
    fn forget(&mut self, identity: u8) {
        self.cache.forget(&identity);
        self.drop_identity(identity);
        self.serial += 1;
        let gone = Key::Forgotten(self.serial);
        let keys = self.flights.iter_mut().map(|(key, ..)| key);
        for key in keys.chain(self.waiting.iter_mut().map(|(key, ..)| key)) {
            if *key == Key::Identity(identity) {
                *key = gone;
            }
        }
    }

    /// Sweeping drops what has ended; a wall clock that is set back afterwards must not bring it back.
    fn sweep(&mut self) {
        self.cache.sweep(self.now);
        let now = self.now;
        self.known.retain(|_, (_, wall, monotonic)| now.wall < *wall && now.monotonic < *monotonic);
        let gone: Vec<u8> =
            self.asked.keys().copied().filter(|id| self.cache.slots().get(id).is_none()).collect();
        for identity in gone {
            assert!(self.entry(identity).is_none(), "what is alive was swept");
            let fetched = self.flights.iter().any(|(of, ..)| *of == Key::Identity(identity));
            assert!(!fetched, "a flight was swept");
            self.drop_identity(identity);
        }
        let orphans = std::mem::take(&mut self.orphans);
        self.known.retain(|number, _| !orphans.contains(number));
    }
}

fn poll_once(waiter: Waiter<Credentials, Refused>) -> Option<Waited<Credentials, Refused>> {
    let mut waiting = std::pin::pin!(waiter.wait());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match waiting.as_mut().poll(&mut context) {
        std::task::Poll::Ready(waited) => Some(waited),
        std::task::Poll::Pending => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_cache_answers_as_a_naive_map_would(steps in steps(), capacity in prop::sample::select(vec![1, 2, 3, 1000])) {
        let now = Now { wall: UNIX_EPOCH + Duration::from_secs(1_000_000), monotonic: Duration::from_secs(5000) };
        let mut model = Model {
            cache: cache(capacity), capacity, asked: HashMap::new(), now, serial: 0, keys: 0, known: HashMap::new(), orphans: HashSet::new(), entries: HashMap::new(),
            flights: Vec::new(), waiting: Vec::new(),
        };
        for step in steps {
            model.step(step);
        }
        // Whoever still waits is told when the leaders go.
        model.flights.clear();
        for (_, _, waiter) in std::mem::take(&mut model.waiting) {
            prop_assert!(poll_once(waiter).is_some(), "somebody who waits was forgotten");
        }
    }
}
