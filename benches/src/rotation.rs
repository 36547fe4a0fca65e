//! 100,000 identities whose tokens all rotate, in a cache that keeps tokens for renewals (as the agent's)
//! and in one that does not (as an auth service's): time of each request, and memory of each identity.

use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::measure::{Pairs, nanoseconds};
use benches::identities::{
    Cache, Identity, JSON_LENGTH, TOKEN_LENGTH, TOKEN_LIFE, begin, cache, fetched, identity, now, token,
};

const MANY: u32 = 100_000;
/// What a cache holds at most by default.
const FEW: u32 = 2_000;
const ROUNDS: usize = 50;
const LIFETIME: Duration = Duration::from_secs(6 * 3600);

/// How this program is told to be the part that measures memory: a heap that was used before has room
/// that nobody sees.
const PART: &str = "POD_IDENTITY_BENCH_ROTATION";

pub(crate) fn run() -> Outcome {
    if let Ok(part) = std::env::var(PART) {
        return measured(part == "agent");
    }
    for part in ["agent", "auth service"] {
        println!("  as the {part}'s:");
        let status = Command::new(std::env::current_exe()?).arg("rotation").env(PART, part).status()?;
        if !status.success() {
            return Err(format!("the part for the {part} failed").into());
        }
    }
    Ok(())
}

fn measured(renews: bool) -> Outcome {
    let before = resident()?;
    let many = Rotating::fill("first requests", MANY, renews)?;
    let filled = resident()?;
    let few = Rotating::fill("first requests", FEW, renews)?;

    let turns = (MANY / FEW) as usize;
    let mut rotations = (1..).flat_map(|rotation| (0..turns).map(move |turn| (rotation, turn)));
    let mut turn_of_many = || {
        let (rotation, turn) = rotations.next().unwrap_or_default();
        many.rotate(rotation, turn * FEW as usize)
    };
    let mut rotation = 0;
    let mut turn_of_few = || {
        rotation += 1;
        let took = few.rotate(rotation, 0);
        // What rotated out goes, as it does among the many by the time all have rotated.
        few.cache.forget_tokens();
        took
    };
    let pairs = Pairs::in_turn(ROUNDS, &mut turn_of_many, &mut turn_of_few);
    pairs.print("a rotated token's request", "among 100,000", "among 2,000", "µs");
    let rotated = resident()?;

    let later =
        |by: Duration| pod_identity_core::now::Now { wall: now().wall + by, monotonic: now().monotonic + by };
    let due = nanoseconds(1, |_| drop(many.cache.due(now())));
    let sweep = nanoseconds(1, |_| many.cache.sweep(now()));
    println!("  what is due, asked of 100,000: {:.2} ms; a sweep: {:.2} ms", due / 1e6, sweep / 1e6);
    let each = |bytes: u64| bytes / u64::from(MANY);
    println!(
        "  memory of an identity: {} bytes, and {} more once all tokens have rotated; in it: JSON {JSON_LENGTH}, \
         the token {}",
        each(filled.saturating_sub(before)),
        each(rotated.saturating_sub(filled)),
        if renews { TOKEN_LENGTH } else { 0 }
    );
    many.cache.sweep(later(TOKEN_LIFE));
    if !many.cache.is_empty() {
        return Err("a sweep after the end left something".into());
    }
    Ok(())
}

struct Rotating {
    cache: Cache,
    identities: Vec<Identity>,
}

impl Rotating {
    /// A cache in which so many identities have credentials.
    fn fill(what: &str, count: u32, renews: bool) -> Result<Self, Box<dyn std::error::Error>> {
        let cache = cache(MANY as usize, renews);
        let mut failed = None;
        let took = nanoseconds(count, |number| {
            let filled = token(number, 0).and_then(|token| fetched(&cache, &token, number, now(), LIFETIME));
            failed = filled.err().or(failed.take());
        });
        if let Some(error) = failed {
            return Err(error);
        }
        println!("  {what} of {count}: {:.3} µs each", took / 1e3);
        let identities = (0..count).map(identity).collect::<Result<_, _>>()?;
        Ok(Self { cache, identities })
    }

    /// The next tokens of some identities, from one on: microseconds of each request.
    fn rotate(&self, rotation: u32, from: usize) -> f64 {
        let tokens: Vec<_> =
            (0..FEW).filter_map(|number| token(number + u32::try_from(from).ok()?, rotation).ok()).collect();
        nanoseconds(FEW, |number| {
            let number = number as usize;
            let hit = begin(&self.cache, &tokens[number], now(), Some(&self.identities[from + number]));
            assert!(hit.is_some(), "a rotated token finds its identity's credentials");
        }) / 1e3
    }
}

/// The memory that the process has.
fn resident() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().map_err(std::io::Error::other)?;
    Ok(kilobytes * 1024)
}
