//! The built-in fixture file, which `pod-identity-local sample` prints.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// A fixture file with one cluster, one pod role and one association.
pub const SAMPLE: &str = include_str!("sample.yaml");

/// Prints the file. A closed pipe, as of `head`, is not a failure.
pub fn print() -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(SAMPLE.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("cannot write the sample to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn sample_is_a_valid_fixture() {
        let fixture = Fixture::from_yaml(SAMPLE).unwrap();
        assert_eq!(fixture.associations.associations.len(), 1);
    }
}
