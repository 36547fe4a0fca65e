//! The built-in file: `pod-identity-local sample` prints it.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// A world with one cluster, one role and one association.
pub const SAMPLE: &str = include_str!("sample.yaml");

/// Prints it. A reader that has enough of it, such as `head`, is no reason to fail.
pub fn print() -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(SAMPLE.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("the sample could not be written: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn the_sample_is_a_world() {
        let world = World::from_yaml(SAMPLE).unwrap();
        assert_eq!(world.associations.associations.len(), 1);
    }
}
