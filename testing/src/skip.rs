//! Skipping of tests whose programs are missing. Under `CI=true` these tests fail.

use std::io::{self, Write};

use crate::install::Unavailable;

/// Returns a value. If it is unavailable, prints a notice on standard error and returns `None`, so that the test can
/// return early.
///
/// # Panics
/// If the value is unavailable under `CI=true`.
pub(crate) fn or_skip<T>(name: &str, value: Result<T, Unavailable>) -> Option<T> {
    or_skip_unless_ci(name, value, in_ci())
}

fn or_skip_unless_ci<T>(name: &str, value: Result<T, Unavailable>, in_ci: bool) -> Option<T> {
    match value {
        Ok(value) => Some(value),
        Err(reason) => {
            assert!(!in_ci, "{name} is required under CI=true: {reason}");
            print_past_harness(&format!("\n*** TESTS SKIPPED: no {name}: {reason} ***\n"));
            None
        }
    }
}

pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Writes a line to standard error. The test harness captures the output of `eprintln!`, but not this line.
pub(crate) fn print_past_harness(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install;

    #[test]
    fn missing_program_skips_tests_and_fails_under_ci() {
        let missing = || install::version("no-such-program", "", (1, 0));
        assert_eq!(or_skip_unless_ci("Program", missing(), false), None);
        let failure = std::panic::catch_unwind(|| or_skip_unless_ci("Program", missing(), true)).unwrap_err();
        let failure = failure.downcast_ref::<String>().unwrap();
        assert!(
            failure.contains("Program is required under CI=true: no-such-program cannot be started"),
            "{failure}"
        );
    }
}
