//! A program's flags and its page in `docs`.

/// Checks that a page names every flag of a program, those of its subcommands too.
///
/// # Panics
/// With the first one that it does not name.
pub fn every_flag_is_in(page: &str, program: &clap::Command) {
    for command in std::iter::once(program).chain(program.get_subcommands()) {
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("`--{flag}`")), "its page does not name --{flag}");
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    #[test]
    #[should_panic(expected = "does not name --second")]
    fn a_flag_of_a_subcommand_that_is_missing_is_found() {
        let run = Command::new("run").arg(Arg::new("second").long("second"));
        let program = Command::new("program").arg(Arg::new("first").long("first")).subcommand(run);
        super::every_flag_is_in("`--first` and --second", &program);
    }
}
