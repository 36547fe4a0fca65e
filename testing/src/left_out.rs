//! What a machine lacks: tests that need it are left out loudly, and fail under `CI=true`.

use std::io::{self, Write};

use crate::install::Unavailable;

/// What was found; `None` where it cannot be had, which a line on stderr says.
///
/// # Panics
/// Under `CI=true`, in place of `None`.
pub(crate) fn or_left_out<T>(what: &str, found: Result<T, Unavailable>) -> Option<T> {
    judged(what, found, in_ci())
}

fn judged<T>(what: &str, found: Result<T, Unavailable>, in_ci: bool) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(why) => {
            assert!(!in_ci, "{what} is needed under CI=true: {why}");
            say(&format!("\n*** TESTS ARE LEFT OUT: no {what}: {why} ***\n"));
            None
        }
    }
}

pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Writes to stderr past the test harness, which would keep back what `eprintln!` prints.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install;

    #[test]
    fn what_cannot_be_had_leaves_tests_out_but_fails_under_ci() {
        let missing = || install::version("no-such-program", "", (1, 0));
        assert_eq!(judged("Nothing", missing(), false), None);
        let failure = std::panic::catch_unwind(|| judged("Nothing", missing(), true)).unwrap_err();
        let failure = failure.downcast_ref::<String>().unwrap();
        assert!(
            failure.contains("Nothing is needed under CI=true: no-such-program cannot be started"),
            "{failure}"
        );
    }
}
