//! Instruction counts of the hot path, counted by valgrind and compared with recorded counts.
//!
//! ```text
//! cargo run --release -p benches --no-default-features --bin counts               compares
//! cargo run --release -p benches --no-default-features --bin counts -- --write    records
//! ```
//!
//! Times vary from run to run, but instruction counts hardly do. So a slower hot path is visible here first.
//! Cryptography is excluded, because the library selects its code by the processor: the digest of the token is
//! subtracted from a hit, the bare signature and the digest from a verification.
//!
//! The count of a call is the difference between a run with 2 n calls and a run with n calls, divided by n. So the
//! start and the end of the program do not count, and no symbols are needed.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use benches::associations::Table;
use benches::identities::{cache, fetched, hit, now, token};
use benches::reviews::{review, review_after_kubectl_apply};
use benches::signed::{Algorithm, Error, ISSUER, SignedToken, valid_at};
use pod_identity_core::inject::{
    AdmissionReview, InjectionOutcome, Injector, ServiceAccountFacts, Settings, Subject,
};
use pod_identity_core::token::{
    BearerToken, Expected, KeySet, POD_IDENTITY_AUDIENCE, PodToken, TokenDigest, verify,
};

/// Maximum difference of a count from the recorded one, in percent. The C library's allocator and the seeds of hash
/// maps change counts slightly.
const MARGIN: f64 = 3.0;
/// The same for a hit. It has few instructions, so the seed of its map has more effect.
const MARGIN_OF_A_HIT: f64 = 12.0;

/// The counts: a name, the number of calls, the calls, and the calls that are subtracted.
const COUNTS: [(&str, u32, &str, &[&str]); 7] = [
    ("a hit, without the token's digest", 20_000, "hit", &["digest"]),
    ("a token's text checked", 20_000, "bearer", &[]),
    (
        "RS256 token parsed and verified, without signature and digest",
        200,
        "verify-rs256",
        &["signature-rs256", "digest-rs256"],
    ),
    (
        "ES256 token parsed and verified, without signature and digest",
        200,
        "verify-es256",
        &["signature-es256", "digest-es256"],
    ),
    ("an association looked up among 1,000", 20_000, "lookup", &[]),
    ("a review parsed, its pod injected, and its response", 2_000, "review", &[]),
    ("a review with last-applied-configuration", 2_000, "review-after-kubectl-apply", &[]),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => compare(),
        ["--write"] => record(),
        ["calls", name, times, directory] => times
            .parse()
            .map_err(Error::from)
            .and_then(|times| calls(name, times, directory.as_ref()))
            .map(|()| true),
        _ => Err("usage: counts [--write]".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("counts: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Compares the counts. Returns whether all are within the margin.
fn compare() -> Result<bool, Error> {
    let recorded = std::fs::read_to_string(recorded_file())?;
    let line = |name: &str| recorded.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let (then, today) = (line("compiler").unwrap_or("none"), compiler()?);
    let mut within = true;
    for (name, count) in count_all()? {
        let old: f64 =
            line(name).ok_or_else(|| format!("no count of {name:?} is recorded: {RECORD}"))?.parse()?;
        let off = (count / old - 1.0) * 100.0;
        let margin = if name == COUNTS[0].0 { MARGIN_OF_A_HIT } else { MARGIN };
        let verdict = if off.abs() <= margin { "" } else { "   NOT WITHIN THE MARGIN" };
        within &= verdict.is_empty();
        println!("{name}: {old:.0} recorded, {count:.0} now, {off:+.1} %{verdict}");
    }
    if within {
        return Ok(true);
    }
    if then != today {
        println!(
            "\nNOT COMPARED: the recorded counts are from {then}, the new ones from {today}.\nCounts depend on \
             the compiler, the C library and valgrind. With the recorded versions this would fail. To record the new counts: {RECORD}"
        );
        return Ok(true);
    }
    println!(
        "\nA count is not within the margin. If the change is intended, record it and give the reason in the commit: {RECORD}"
    );
    Ok(false)
}

const RECORD: &str = "cargo run --release -p benches --no-default-features --bin counts -- --write";

fn record() -> Result<bool, Error> {
    let mut text = format!(
        "Instructions of the hot path, see benches/src/counts.rs. Written by:\n{RECORD}\n\ncompiler: {}\n",
        compiler()?
    );
    for (name, count) in count_all()? {
        writeln!(text, "{name}: {count:.0}")?;
    }
    std::fs::write(recorded_file(), &text)?;
    print!("{text}");
    Ok(true)
}

fn recorded_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("counts.txt")
}

/// Returns the versions that the counts depend on: the compiler, the C library with its allocator and memory
/// functions, and valgrind.
fn compiler() -> Result<String, Error> {
    let output =
        Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV").output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
    let first_line = |program: &str| {
        let said = Command::new(program).arg("--version").output().map(|output| output.stdout);
        let said = said.ok().and_then(|said| String::from_utf8(said).ok()).unwrap_or_default();
        said.lines().next().map_or_else(|| format!("no {program}"), str::to_owned)
    };
    let (c_library, valgrind) = (first_line("ldd"), first_line("valgrind"));
    Ok(format!("rustc {} for {}, {c_library}, {valgrind}", line("release: "), line("host: ")))
}

fn count_all() -> Result<Vec<(&'static str, f64)>, Error> {
    // Keys and signatures are made once, outside valgrind, because the time to make them is random.
    let directory = std::env::temp_dir().join(format!("pod-identity-counts-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let counted = write_tokens(&directory).and_then(|()| {
        let one = |(name, times, calls, less): (&'static str, _, _, &[&str])| {
            let mut count = instructions(calls, times, &directory)?;
            for less in less {
                count -= instructions(less, times, &directory)?;
            }
            Ok((name, count))
        };
        COUNTS.into_iter().map(one).collect()
    });
    std::fs::remove_dir_all(&directory)?;
    counted
}

/// Returns the instructions of one call.
fn instructions(calls: &str, times: u32, directory: &Path) -> Result<f64, Error> {
    let (once, twice) = (collected(calls, times, directory)?, collected(calls, 2 * times, directory)?);
    Ok((twice - once) / f64::from(times))
}

/// Returns the instructions of a run.
fn collected(calls: &str, times: u32, directory: &Path) -> Result<f64, Error> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["calls", calls, &times.to_string()])
        .arg(directory)
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{calls}: {said}").into());
    }
    let count =
        said.lines().find_map(|line| line.split_once("Collected :")).ok_or("valgrind counted nothing")?;
    Ok(count.1.trim().parse()?)
}

fn write_tokens(directory: &Path) -> Result<(), Error> {
    for (name, algorithm) in [("rs256", Algorithm::Rs256), ("es256", Algorithm::Es256)] {
        let signed = SignedToken::new(algorithm)?;
        std::fs::write(directory.join(format!("{name}.token")), signed.token)?;
        std::fs::write(directory.join(format!("{name}.jwks")), signed.jwks)?;
    }
    Ok(())
}

fn signed(name: &str, directory: &Path) -> Result<SignedToken, Error> {
    Ok(SignedToken {
        token: std::fs::read_to_string(directory.join(format!("{name}.token")))?,
        jwks: std::fs::read(directory.join(format!("{name}.jwks")))?,
    })
}

/// Makes the calls, under valgrind.
fn calls(name: &str, times: u32, directory: &Path) -> Result<(), Error> {
    const IDENTITIES: u32 = 250;
    let tokens = || (0..IDENTITIES).map(|number| token(number, 0)).collect::<Result<Vec<_>, _>>();
    match name {
        "hit" => {
            let (tokens, cache) = (tokens()?, cache(2000));
            for (number, token) in (0..).zip(&tokens) {
                fetched(&cache, token, number, now(), Duration::from_secs(3600))?;
            }
            repeat(times, |number| hit(&cache, &tokens[(number % IDENTITIES) as usize], now()).is_some())
        }
        "digest" => {
            let tokens = tokens()?;
            repeat(times, |number| {
                let token = &tokens[(number % IDENTITIES) as usize];
                black_box(TokenDigest::of_text(token.bearer().expose().as_bytes()));
                true
            })
        }
        "bearer" => {
            let token = signed("rs256", directory)?.token;
            repeat(times, |_| BearerToken::parse(black_box(&token)).is_ok())
        }
        "review" | "review-after-kubectl-apply" => {
            let body = if name == "review" { review() } else { review_after_kubectl_apply() };
            let injector = Injector::new(Settings::default());
            let facts = ServiceAccountFacts { associated: true, ..ServiceAccountFacts::default() };
            repeat(times, |number| {
                let Ok(review) = AdmissionReview::parse(black_box(&body)) else { return false };
                let Subject::Pod(pod) = &review.subject else { return false };
                // The webhook asks first whether it needs the facts.
                let injection = injector.inject_without_lookup(pod, facts.namespace, number);
                let injection = injection.unwrap_or_else(|| injector.inject(pod, &facts, number));
                let response = review.allow(&injection);
                injection.outcome == InjectionOutcome::Injected && black_box(response).len() > 1000
            })
        }
        "lookup" => {
            let table = Table::new(1000)?;
            let keys = table.keys(1000);
            repeat(times, |number| table.has(&keys[(number % 1000) as usize]))
        }
        _ => match name.split_once('-') {
            Some(("signature", algorithm)) => {
                let bare = signed(algorithm, directory)?.bare()?;
                repeat(times, |_| black_box(&bare).verifies())
            }
            Some(("digest", algorithm)) => {
                let token = signed(algorithm, directory)?.token;
                repeat(times, |_| {
                    black_box(TokenDigest::of_text(black_box(token.as_bytes())));
                    true
                })
            }
            Some(("verify", algorithm)) => {
                let signed = signed(algorithm, directory)?;
                let (keys, now) = (KeySet::from_jwks(&signed.jwks)?, valid_at());
                let expected =
                    Expected { issuer: ISSUER.to_owned(), audience: POD_IDENTITY_AUDIENCE.to_owned() };
                repeat(times, |_| {
                    let token = PodToken::parse(black_box(&signed.token));
                    token.and_then(|token| verify(&token, &keys, &expected, now)).is_ok()
                })
            }
            _ => Err(format!("nothing is called {name}").into()),
        },
    }
}

fn repeat(times: u32, call: impl FnMut(u32) -> bool) -> Result<(), Error> {
    if (0..times).all(call) { Ok(()) } else { Err("a call failed".into()) }
}
