//! A check of a program's flags against its page in `docs`.

/// Checks that a page names every flag of a program and of its subcommands.
///
/// # Panics
/// If a flag is missing.
pub fn every_flag_is_in(page: &str, program: &clap::Command) {
    for command in std::iter::once(program).chain(program.get_subcommands()) {
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(page.contains(&format!("`--{flag}`")), "the page does not name --{flag}");
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    #[test]
    #[should_panic(expected = "does not name --second")]
    fn finds_a_missing_flag_of_a_subcommand() {
        let run = Command::new("run").arg(Arg::new("second").long("second"));
        let program = Command::new("program").arg(Arg::new("first").long("first")).subcommand(run);
        super::every_flag_is_in("`--first` and --second", &program);
    }
}
