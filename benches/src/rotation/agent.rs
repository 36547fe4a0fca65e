//! The part of the agent: identities with rotating tokens.

use std::time::Duration;

use benches::identities::{
    Cache, Identity, JSON_LENGTH, TOKEN_LENGTH, TOKEN_LIFETIME, begin, cache, fetched, identity, now, token,
};

use super::{FEW, MANY, ROUNDS, each_has, later, resident};
use crate::Outcome;
use crate::measure::{Pairs, cpu_of, each, nanoseconds};

const LIFETIME: Duration = Duration::from_secs(6 * 3600);

pub(super) fn run() -> Outcome {
    let before = resident()?;
    let many = Rotating::fill(MANY)?;
    let filled = resident()?;
    let few = Rotating::fill(FEW)?;

    let turns = MANY / FEW;
    let mut rotations = (1..).flat_map(|rotation| (0..turns).map(move |turn| (rotation, turn)));
    let turn_of_many = || {
        let (rotation, turn) = rotations.next().unwrap_or_default();
        many.rotate(rotation, turn * FEW)
    };
    let mut rotation = 0;
    let turn_of_few = || {
        rotation += 1;
        let took = few.rotate(rotation, 0);
        // The old tokens are dropped, as in the large cache after all tokens have rotated.
        few.cache.forget_tokens();
        took
    };
    let pairs = Pairs::in_turn(ROUNDS, turn_of_many, turn_of_few)?;
    pairs.print("a rotated token's request", "among 100,000", "among 2,000", "µs");
    let rotated = resident()?;

    let due = nanoseconds(1, |_| drop(many.cache.due(now())));
    let sweep = nanoseconds(1, |_| many.cache.sweep(now()));
    println!("  search for due renewals among 100,000: {:.2} ms; a sweep: {:.2} ms", due / 1e6, sweep / 1e6);
    println!(
        "  memory of an identity: {} bytes, and {} more once all tokens have rotated; in it: JSON {JSON_LENGTH}, \
         the token {TOKEN_LENGTH}",
        each_has(filled.saturating_sub(before)),
        each_has(rotated.saturating_sub(filled)),
    );
    many.cache.sweep(later(TOKEN_LIFETIME));
    if !many.cache.is_empty() {
        return Err("a sweep after the expiry left entries".into());
    }
    Ok(())
}

struct Rotating {
    cache: Cache,
    identities: Vec<Identity>,
}

impl Rotating {
    /// Fills a cache with the credentials of a number of identities.
    fn fill(count: u32) -> Result<Self, Box<dyn std::error::Error>> {
        let cache = cache(MANY as usize);
        let (filled, took) = cpu_of(|| {
            (0..count).try_for_each(|number| fetched(&cache, &token(number, 0)?, number, now(), LIFETIME))
        });
        filled?;
        println!("  first requests of {count}: {:.3} µs each", each(took, count) / 1e3);
        let identities = (0..count).map(identity).collect::<Result<_, _>>()?;
        Ok(Self { cache, identities })
    }

    /// Requests credentials with the next tokens of some identities. Returns the microseconds of each request.
    fn rotate(&self, rotation: u32, from: u32) -> Result<f64, Box<dyn std::error::Error>> {
        let tokens =
            (from..from + FEW).map(|number| token(number, rotation)).collect::<Result<Vec<_>, _>>()?;
        let identities = &self.identities[from as usize..];
        let (all_hit, took) = cpu_of(|| {
            tokens
                .iter()
                .zip(identities)
                .all(|(token, identity)| begin(&self.cache, token, now(), identity).is_some())
        });
        if !all_hit {
            return Err("a rotated token did not find its identity's credentials".into());
        }
        Ok(each(took, FEW) / 1e3)
    }
}
