//! 100,000 identities in the agent's cache, whose tokens all rotate, and 100,000 sessions in the auth service's cache:
//! time of a request, and memory.

mod agent;
mod auth;

use std::process::Command;
use std::time::Duration;

use benches::identities::now;
use pod_identity_core::time::Now;

use crate::Outcome;

const MANY: u32 = 100_000;
/// Default capacity of the agent's cache.
const FEW: u32 = 2_000;
const ROUNDS: usize = 50;

/// Environment variable of the part that measures memory. It runs in a separate process, because a used heap has free
/// memory that hides growth.
const PART: &str = "POD_IDENTITY_BENCH_ROTATION";

pub(crate) fn run() -> Outcome {
    match std::env::var(PART).as_deref() {
        Ok("agent") => return agent::run(),
        Ok(_) => return auth::run(),
        Err(_) => {}
    }
    for part in ["agent", "auth service"] {
        println!("  {part}:");
        let status = Command::new(std::env::current_exe()?).arg("rotation").env(PART, part).status()?;
        if !status.success() {
            return Err(format!("the part for the {part} failed").into());
        }
    }
    Ok(())
}

/// Returns a time later than the fixed one.
fn later(by: Duration) -> Now {
    Now { wall: now().wall + by, monotonic: now().monotonic + by }
}

/// Returns the resident memory of the process.
fn resident() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().map_err(std::io::Error::other)?;
    Ok(kilobytes * 1024)
}

/// Returns the bytes for each of the identities.
fn each_has(bytes: u64) -> u64 {
    bytes / u64::from(MANY)
}
