//! Allocations of a call, counted by valgrind: the difference between a run with 2 n calls and one with n calls.

use std::process::Command;

use super::{Error, Resolver};

const TIMES: u32 = 500;

/// Prints the number of allocations, or that valgrind is missing.
pub(super) fn print(with_account_id: bool) {
    match (of_call("ours", with_account_id), of_call("sdk", with_account_id)) {
        (Ok(ours), Ok(sdk)) => println!("  allocations of a call: the SDK's {sdk:.2}, ours {ours:.2}"),
        (Err(error), _) | (_, Err(error)) => println!("  allocations of a call: not counted: {error}"),
    }
}

fn of_call(cache: &str, with_account_id: bool) -> Result<f64, Error> {
    let (once, twice) = (of_run(cache, with_account_id, TIMES)?, of_run(cache, with_account_id, 2 * TIMES)?);
    Ok((twice - once) / f64::from(TIMES))
}

fn of_run(cache: &str, with_account_id: bool, times: u32) -> Result<f64, Error> {
    let output = Command::new("valgrind")
        .args(["--tool=memcheck", "--leak-check=no", "--undef-value-errors=no"])
        .arg(std::env::current_exe()?)
        .args([crate::RESOLVE_IN_OWN_PROCESS, "calls", cache, &with_account_id.to_string()])
        .arg(times.to_string())
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{cache}: {text}").into());
    }
    let usage = text.lines().find_map(|line| line.split_once("total heap usage: "));
    let count = usage.and_then(|(_, usage)| usage.split(' ').next()).ok_or("valgrind counted nothing")?;
    Ok(count.replace(',', "").parse()?)
}

/// Makes the calls, under valgrind.
pub(super) fn calls(cache: &str, with_account_id: &str, times: u32) -> Result<(), Error> {
    let with_account_id = with_account_id.parse()?;
    let resolver = match cache {
        "ours" => Resolver::ours(with_account_id)?,
        _ => Resolver::sdk(with_account_id)?,
    };
    resolver.runtime.block_on(resolver.resolve_often(&resolver.resolver, times))
}
