//! Measurements, each a ratio in one run: `cargo run --release -p benches -- NAME ...`.
//!
//! Times differ between machines and vary with other load. So each measurement alternates with its baseline in one
//! process, and the result is the median of the ratios.

mod cache;
mod concurrent_requests;
mod exchange;
mod get;
mod lookup;
mod measure;
mod pods;
mod resolve;
mod review;
mod rotation;
mod served;
mod service_accounts;
mod soak;
mod upstream;
mod verify;

use std::process::ExitCode;

/// The result of a measurement.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A measurement.
type Bench = fn() -> Outcome;

/// The measurements: name, description, function.
const BENCHES: [(&str, &str, Bench); 10] = [
    ("get", "a cached GET at the agent against a bare hyper server with the same answer", get::run),
    ("cache", "a hit in the cache, alone and beside a writer, against a map behind a mutex", cache::run),
    (
        "rotation",
        "100,000 identities at the agent, 100,000 sessions at the auth service: time and memory of each",
        rotation::run,
    ),
    ("verify", "a token verified against the same signature verified by the bare library", verify::run),
    ("lookup", "a lookup among 10 to 100,000 associations", lookup::run),
    ("exchange", "an exchange at the auth service without STS against one verified signature", exchange::run),
    (
        "service_accounts",
        "the webhook with 1,000 to 100,000 service accounts, and the cost of a read for each pod",
        service_accounts::run,
    ),
    (
        "review",
        "a review at the webhook against a bare hyper server with TLS and the same answer",
        review::run,
    ),
    (
        "resolve",
        "credentials for a request of the SDK for Rust: this project's provider against the SDK's own cache",
        resolve::run,
    ),
    (
        "concurrent_requests",
        "64 concurrent first requests: time from the upstream's response to the last one",
        concurrent_requests::run,
    ),
];

/// First argument of a process that is a part of a measurement.
const RESOLVE_IN_OWN_PROCESS: &str = "resolve-in-own-process";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, flags)) if first == "soak" => return done("soak", soak::run(flags)),
        Some((first, part)) if first == soak::PART => return done("soak", soak::run_part(part)),
        _ => {}
    }
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, whose times are not meaningful: add --release");
        return ExitCode::FAILURE;
    }
    let wanted = arguments;
    if let Some((first, arguments)) = wanted.split_first()
        && first == RESOLVE_IN_OWN_PROCESS
    {
        return done("resolve", resolve::in_own_process(arguments));
    }
    let known = |name: &String| BENCHES.iter().any(|(known, ..)| known == name);
    if wanted.is_empty() || !wanted.iter().all(|name| name == "all" || known(name)) {
        eprintln!("usage: benches NAME ...\n\n  all");
        for (name, what, _) in BENCHES {
            eprintln!("  {name:<20} {what}");
        }
        eprintln!(
            "\n  soak [--minutes N] [--rate N]: memory and descriptors of agent and auth service under load"
        );
        return ExitCode::FAILURE;
    }
    let all = wanted.iter().any(|name| name == "all");
    for (name, what, run) in BENCHES {
        if !all && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("\n{name}: {what}");
        if done(name, run()) == ExitCode::FAILURE {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn done(name: &str, outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
