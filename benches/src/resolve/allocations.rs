//! Allocations of a call, as valgrind counts them: those of a run with 2 n calls less those of one with n.

use std::process::Command;

use super::{Error, Resolver};

const TIMES: u32 = 500;

/// Says how many there are; without valgrind, that there is none.
pub(super) fn print(account: bool) {
    match (of_call("ours", account), of_call("sdk", account)) {
        (Ok(ours), Ok(sdk)) => println!("  allocations of a call: the SDK's {sdk:.2}, ours {ours:.2}"),
        (Err(error), _) | (_, Err(error)) => println!("  allocations of a call: not counted: {error}"),
    }
}

fn of_call(whose: &str, account: bool) -> Result<f64, Error> {
    let (once, twice) = (of_run(whose, account, TIMES)?, of_run(whose, account, 2 * TIMES)?);
    Ok((twice - once) / f64::from(TIMES))
}

fn of_run(whose: &str, account: bool, times: u32) -> Result<f64, Error> {
    let output = Command::new("valgrind")
        .args(["--tool=memcheck", "--leak-check=no", "--undef-value-errors=no"])
        .arg(std::env::current_exe()?)
        .args([crate::RESOLVE_IN_OWN_PROCESS, "calls", whose, &account.to_string()])
        .arg(times.to_string())
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{whose}: {said}").into());
    }
    let usage = said.lines().find_map(|line| line.split_once("total heap usage: "));
    let count = usage.and_then(|(_, usage)| usage.split(' ').next()).ok_or("valgrind counted nothing")?;
    Ok(count.replace(',', "").parse()?)
}

/// What runs under valgrind.
pub(super) fn calls(whose: &str, account: &str, times: u32) -> Result<(), Error> {
    let account = account.parse()?;
    let resolver = match whose {
        "ours" => Resolver::ours(account)?,
        _ => Resolver::sdk(account)?,
    };
    resolver.runtime.block_on(resolver.resolve_often(&resolver.resolver, times))
}
