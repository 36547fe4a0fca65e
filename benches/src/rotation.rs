//! 100,000 identities in the agent's cache, whose tokens all rotate, and 100,000 sessions in the auth
//! service's, which knows no tokens: time of each request, and memory of each.

mod agent;
mod auth;

use std::process::Command;
use std::time::Duration;

use benches::identities::now;
use pod_identity_core::time::Now;

use crate::Outcome;

const MANY: u32 = 100_000;
/// What the agent's cache holds at most by default.
const FEW: u32 = 2_000;
const ROUNDS: usize = 50;

/// How this program is told to be the part that measures memory: a heap that was used before has room
/// that nobody sees.
const PART: &str = "POD_IDENTITY_BENCH_ROTATION";

pub(crate) fn run() -> Outcome {
    match std::env::var(PART).as_deref() {
        Ok("agent") => return agent::run(),
        Ok(_) => return auth::run(),
        Err(_) => {}
    }
    for part in ["agent", "auth service"] {
        println!("  the {part}'s:");
        let status = Command::new(std::env::current_exe()?).arg("rotation").env(PART, part).status()?;
        if !status.success() {
            return Err(format!("the part for the {part} failed").into());
        }
    }
    Ok(())
}

/// So much later.
fn later(by: Duration) -> Now {
    Now { wall: now().wall + by, monotonic: now().monotonic + by }
}

/// The memory that the process has.
fn resident() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().map_err(std::io::Error::other)?;
    Ok(kilobytes * 1024)
}

/// What each of the many has of so many bytes.
fn each_has(bytes: u64) -> u64 {
    bytes / u64::from(MANY)
}
