//! Property test of the cache against a simple map, with arbitrary interleavings: equal results, never two leaders of
//! a key, and a result for every waiter.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Begin { token: u32, keys: bool },
    Complete { flight: prop::sample::Index, lifetime: u64 },
    Fail { flight: prop::sample::Index, effect: CacheEffect },
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
        Just(CacheEffect::RefusesToken),
        Just(CacheEffect::RefusesIdentity),
        Just(CacheEffect::CallFailed),
        Just(CacheEffect::UnconfirmedRefusal)
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

/// The key of a flight. It has at most one leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Identity(u8),
    Token(u32),
    /// An identity that was forgotten while it was fetched, with a unique number.
    Forgotten(u64),
}

/// The key, the token's number, the leader, the start, and the generation of keys.
type Flight = (Key, u32, Leader<u8, Credentials, Refused>, Duration, u64);

/// A simple model: one map for each kind of record.
struct Model {
    cache: Cache,
    now: Now,
    serial: u64,
    /// Number of key changes.
    keys: u64,
    /// token → (identity, expiry by the wall clock, expiry by the monotonic clock)
    known: HashMap<u32, (u8, SystemTime, Duration)>,
    /// Known tokens whose identity was dropped since their last use. A sweep forgets them.
    orphans: HashSet<u32>,
    /// identity → (credentials, expiry by the monotonic clock, start of the fetch)
    entries: HashMap<u8, (Credentials, Duration, Duration)>,
    /// Time of the last request of each cached identity.
    requested: HashMap<u8, Duration>,
    capacity: usize,
    flights: Vec<Flight>,
    /// Waiters, with the key of their flight and the number of their token.
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
        // A refused token is neither verified nor known.
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
            self.requested.insert(identity, self.now.monotonic);
            self.evicted();
        }
        let in_flight = self.flights.iter().any(|(of, ..)| *of == key);
        match begun.unwrap() {
            Begin::Hit(entry) => {
                assert_eq!(key, Key::Identity(identity), "a hit for a token that was not accepted");
                assert_eq!(Some(entry.value()), self.entry(identity), "a hit without a valid entry");
            }
            Begin::Wait(waiter) => {
                assert!(in_flight, "a waiter without a flight");
                assert!(self.entry_of(key).is_none(), "a waiter although there is an entry");
                self.waiting.push((key, number, waiter));
            }
            Begin::Lead(leader, waiter) => {
                assert!(!in_flight, "a second leader of {key:?}");
                assert!(self.entry_of(key).is_none(), "a fetch although there is an entry");
                assert_eq!(leader.token().digest(), token(number).digest());
                self.flights.push((key, number, leader, self.now.monotonic, self.keys));
                self.waiting.push((key, number, waiter));
            }
            // The duration is random. The caller checks the reason by the effect.
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

    /// Evicts from a full cache: the least recently requested of those that are not in flight.
    fn evicted(&mut self) {
        let idle = |id: &u8| !self.flights.iter().any(|(of, ..)| *of == Key::Identity(*id));
        let (kept, gone): (Vec<u8>, Vec<u8>) =
            self.requested.keys().copied().partition(|id| self.cache.slots().get(id).is_some());
        for id in &gone {
            assert!(self.capacity <= kept.len(), "an entry was evicted below the capacity");
            assert!(idle(id), "a flight was evicted");
            let younger =
                kept.iter().filter(|id| idle(id)).all(|kept| self.requested[kept] >= self.requested[id]);
            assert!(younger, "{id} was evicted, which was requested later than others");
        }
        for id in gone {
            self.drop_identity(id);
        }
    }

    fn drop_identity(&mut self, identity: u8) {
        self.requested.remove(&identity);
        self.entries.remove(&identity);
        self.orphans.extend((0..12).filter(|number| identity_of(*number) == identity));
    }

    fn take(&mut self, flight: prop::sample::Index) -> Option<Flight> {
        (!self.flights.is_empty()).then(|| self.flights.remove(flight.index(self.flights.len())))
    }

    fn complete(&mut self, (key, number, leader, begun, keys): Flight, lifetime: u64) {
        let identity = identity_of(number);
        self.serial += 1;
        let expires_at = self.now.wall + Duration::from_secs(lifetime);
        let value = Credentials { identity, serial: self.serial, expires_at };
        let token_expires_at = self.now.wall + Duration::from_secs(3000);
        leader.complete(self.now, Ok(Issued { identity, token_expires_at, value: value.clone() }));
        if let Key::Token(_) = key {
            self.requested.entry(identity).or_insert(self.now.monotonic);
            self.evicted();
        }
        let later = self.entries.get(&identity).is_some_and(|(.., of_kept)| *of_kept > begun);
        if !later && !matches!(key, Key::Forgotten(_)) {
            self.entries.insert(identity, (value, self.now.monotonic + Duration::from_secs(lifetime), begun));
        }
        // A token that was verified with old keys is not known with the new ones. A token that is known, was forgotten
        // with its keys, or was just refused, does not become known by a response of the upstream.
        let refused = self.refused_tokens(number);
        if keys == self.keys && matches!(key, Key::Token(_)) && !refused {
            self.orphans.remove(&number);
            let end = self.now.monotonic + Duration::from_secs(3000);
            self.known.insert(number, (identity, token_expires_at, end));
        }
        self.finished(key, |waited, _| match waited {
            Some(Waited::Value(entry)) => assert_eq!(entry.value().identity, identity),
            other => panic!("{other:?} after a success"),
        });
    }

    fn fail(&mut self, (key, number, leader, begun, _): Flight, effect: CacheEffect) {
        let before = self.entry(identity_of(number)).cloned();
        let newer = matches!(key, Key::Identity(_))
            && before.is_some()
            && self.entries.get(&identity_of(number)).is_some_and(|(.., of_kept)| *of_kept > begun);
        leader.complete(self.now, Err(Refused(effect)));
        if let (Key::Identity(identity), CacheEffect::RefusesIdentity, false) = (key, effect, newer) {
            self.entries.remove(&identity);
        }
        // A refused token must be verified again.
        if effect == CacheEffect::RefusesToken
            || (matches!(key, Key::Token(_)) && effect != CacheEffect::CallFailed)
        {
            self.known.remove(&number);
        }
        if effect == CacheEffect::UnconfirmedRefusal && before.is_some() {
            // The time since the first refusal decides whether it was dropped, so the cache is read.
            let identity = identity_of(number);
            let kept = self.cache.slots().get(&identity).and_then(|slot| slot.read(self.now, MARGIN));
            if kept.is_none() {
                self.entries.remove(&identity);
            }
        }
        self.finished(key, |waited, token| match waited {
            Some(Waited::Refused(_)) => assert!(effect != CacheEffect::RefusesToken || token == number),
            // The wall clock was set back meanwhile, so the entry is valid again.
            Some(Waited::Value(entry)) if newer && effect != CacheEffect::RefusesToken => {
                assert_eq!(Some(entry.value()), before.as_ref());
            }
            Some(Waited::Stale(entry)) => {
                assert!(matches!(effect, CacheEffect::CallFailed | CacheEffect::UnconfirmedRefusal));
                assert_eq!(Some(entry.value()), before.as_ref());
            }
            Some(Waited::Again) => assert!(effect == CacheEffect::RefusesToken && token != number),
            other => panic!("{other:?} after a refusal"),
        });
    }

    /// Checks that every waiter of the flight has a result.
    fn finished(&mut self, key: Key, check: impl Fn(Option<Waited<Credentials, Refused>>, u32)) {
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
                if let Some((key, _, leader, ..)) = self.take(flight) {
                    drop(leader);
                    self.finished(key, |waited, _| {
                        assert!(matches!(waited, Some(Waited::Again)), "{waited:?}");
                    });
                }
            }
            Step::Due => {
                for due in self.cache.due(self.now) {
                    let key = Key::Identity(due.identity);
                    assert!(!self.flights.iter().any(|(of, ..)| *of == key), "a renewal during a fetch");
                    assert!(self.entry(due.identity).is_some(), "a renewal without an entry");
                    let number = (0..12)
                        .find(|number| token(*number).digest() == due.leader.token().digest())
                        .unwrap();
                    assert_eq!(identity_of(number), due.identity, "a renewal with another pod's token");
                    self.flights.push((key, number, due.leader, self.now.monotonic, self.keys));
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

    /// Forgets an identity. A new flight may begin beside the old one, whose result is not cached.
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

    /// Sweeps. A wall clock that is set back afterwards must not make an expired entry valid.
    fn sweep(&mut self) {
        self.cache.sweep(self.now);
        let now = self.now;
        self.known.retain(|_, (_, wall, monotonic)| now.wall < *wall && now.monotonic < *monotonic);
        let gone: Vec<u8> =
            self.requested.keys().copied().filter(|id| self.cache.slots().get(id).is_none()).collect();
        for identity in gone {
            assert!(self.entry(identity).is_none(), "a valid entry was swept");
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
    fn cache_behaves_like_the_model(steps in steps(), capacity in prop::sample::select(vec![1, 2, 3, 1000])) {
        let now = Now { wall: UNIX_EPOCH + Duration::from_secs(1_000_000), monotonic: Duration::from_secs(5000) };
        let mut model = Model {
            cache: cache(capacity), capacity, requested: HashMap::new(), now, serial: 0, keys: 0, known: HashMap::new(), orphans: HashSet::new(), entries: HashMap::new(),
            flights: Vec::new(), waiting: Vec::new(),
        };
        for step in steps {
            model.step(step);
        }
        // The remaining waiters get a result when the leaders are dropped.
        model.flights.clear();
        for (_, _, waiter) in std::mem::take(&mut model.waiting) {
            prop_assert!(poll_once(waiter).is_some(), "a waiter has no result");
        }
    }
}
