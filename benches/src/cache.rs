//! A cache hit, with and without a concurrent writer on another processor, against a map in a mutex.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pod_identity_core::time::Now;
use pod_identity_core::token::{PodToken, TokenDigest};

use crate::Outcome;
use crate::measure::{Figures, Pairs, nanoseconds, pin};
use benches::identities::{Cache, Value, cache, fetched, hit, now, token};

/// Number of identities: the pods of a large node.
const IDENTITIES: u32 = 250;
const ROUNDS: usize = 61;
const TIMES: u32 = 20_000;
/// Lifetime of credentials.
const LIFETIME: Duration = Duration::from_secs(3600);

pub(crate) fn run() -> Outcome {
    pin(0);
    let tokens = (0..IDENTITIES).map(|number| token(number, 0)).collect::<Result<Vec<_>, _>>()?;
    let (ours, naive) = (Ours::new(&tokens)?, Naive::new(&tokens));
    let digest = || {
        nanoseconds(TIMES, |number| {
            black_box(TokenDigest::of_text(pick(&tokens, number).bearer().expose().as_bytes()));
        })
    };
    let read_ours = || nanoseconds(TIMES, |number| assert!(ours.read(pick(&tokens, number))));
    let read_naive = || nanoseconds(TIMES, |number| assert!(naive.read(pick(&tokens, number))));

    Pairs::in_turn(ROUNDS, || Ok(read_ours()), || Ok(digest()))?.print(
        "a hit",
        "cache",
        "only the digest of the token",
        "ns",
    );
    Pairs::in_turn(ROUNDS, || Ok(read_ours()), || Ok(read_naive()))?.print(
        "a hit with the digest",
        "cache",
        "mutex",
        "ns",
    );
    let (mut puts, mut naive_puts) = (Vec::new(), Vec::new());
    let pairs = Pairs::in_turn(
        ROUNDS,
        || Ok(beside(&mut puts, || ours.write(&tokens), read_ours)),
        || Ok(beside(&mut naive_puts, || naive.write(&tokens), read_naive)),
    )?;
    pairs.print("a hit beside a writer", "cache", "mutex", "ns");
    println!(
        "  a put beside a reader: cache {:.3} µs, mutex {:.3} µs",
        Figures::of(puts).median() / 1e3,
        Figures::of(naive_puts).median() / 1e3
    );
    Ok(())
}

fn pick(tokens: &[PodToken], number: u32) -> &PodToken {
    &tokens[number as usize % tokens.len()]
}

/// Measures reads while a thread on another processor replaces all entries again and again. Records the nanoseconds of
/// each put.
fn beside(puts: &mut Vec<f64>, write: impl Fn() + Sync, read: impl Fn() -> f64) -> f64 {
    let (started, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            pin(1);
            let mut took = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                took.push(nanoseconds(1, |_| write()) / f64::from(IDENTITIES));
                started.store(true, Ordering::Relaxed);
            }
            took
        });
        while !started.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let took = read();
        ended.store(true, Ordering::Relaxed);
        puts.extend(writer.join().unwrap_or_default());
        took
    })
}

struct Ours {
    cache: Cache,
    /// Number of times that all entries were replaced.
    written: AtomicU32,
}

impl Ours {
    fn new(tokens: &[PodToken]) -> Result<Self, Box<dyn std::error::Error>> {
        let ours = Self { cache: cache(2000), written: AtomicU32::new(0) };
        for (number, token) in (0..).zip(tokens) {
            fetched(&ours.cache, token, number, now(), LIFETIME)?;
        }
        Ok(ours)
    }

    fn read(&self, token: &PodToken) -> bool {
        hit(&self.cache, token, now()).is_some()
    }

    /// Replaces all credentials, as renewals do. Each time is later than the expiry of the entries before. Readers use
    /// an earlier time, at which all entries are valid.
    fn write(&self, tokens: &[PodToken]) {
        let later = (LIFETIME + LIFETIME) * (self.written.fetch_add(1, Ordering::Relaxed) + 1);
        let now = Now { wall: now().wall + later, monotonic: now().monotonic + later };
        for (number, token) in (0..).zip(tokens) {
            if let Err(error) = fetched(&self.cache, token, number, now, LIFETIME) {
                eprintln!("entry not written: {error}");
            }
        }
    }
}

struct Naive(Mutex<HashMap<TokenDigest, Arc<Value>>>);

impl Naive {
    fn new(tokens: &[PodToken]) -> Self {
        let naive = Self(Mutex::default());
        naive.write(tokens);
        naive
    }

    fn read(&self, token: &PodToken) -> bool {
        let digest = TokenDigest::of_text(token.bearer().expose().as_bytes());
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        found.is_some_and(|value| value.is_valid(now()))
    }

    fn write(&self, tokens: &[PodToken]) {
        for token in tokens {
            let digest = token.digest();
            let value = Arc::new(Value::new(now(), LIFETIME));
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, value);
        }
    }
}
