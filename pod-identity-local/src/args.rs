//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use pod_identity_core::identity::{ClusterName, Namespace, PodName, ServiceAccount};
use pod_identity_runtime::logs::LogLevel;

use crate::breakage::Breakage;

/// EKS Pod Identity on one laptop: no AWS account, no cluster.
#[derive(Debug, Parser)]
#[command(name = "pod-identity-local", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How much the services log: error, warn, info, debug or trace. No level logs a secret.
    #[arg(
        long,
        short = 'v',
        value_name = "LEVEL",
        default_value = "error",
        env = "POD_IDENTITY_LOG",
        global = true
    )]
    pub log_level: LogLevel,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole path, show each link of it, and run a command as a pod would run.
    Run(RunArgs),
    /// Print the built-in file.
    Sample,
    /// Call STS as an app with nothing but a pod's variables.
    #[command(hide = true)]
    CallAsPod,
}

/// How the chain is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

/// The flags of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The file of accounts, callers, roles, clusters and associations; the built-in one without it.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The cluster whose pod runs; the file's first without it.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<ClusterName>,

    /// The pod's namespace; that of the cluster's first association without it.
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<Namespace>,

    /// The pod's service account; that of the cluster's first association without it.
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<ServiceAccount>,

    /// The pod's name.
    #[arg(long, value_name = "NAME", default_value = "app-1")]
    pub pod: PodName,

    /// Let the auth service be the IAM role that a cluster of your own needs, not EKS's service
    /// principal.
    #[arg(long)]
    pub self_managed: bool,

    /// Break the path in one place, to see what that looks like.
    #[arg(long = "break", value_name = "WHERE", value_enum)]
    pub breakage: Option<Breakage>,

    /// How to show the chain.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// End after the call, instead of staying up until Ctrl-C.
    #[arg(long, conflicts_with = "program")]
    pub once: bool,

    /// For tests: the longest life of a session, for example 20s. AWS gives no less than 15 min.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub expire_after: Option<Duration>,

    /// The command to run as the pod's, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    pub program: Vec<OsString>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 20s or 5m");
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| (1..=43_200).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is not between 1s and 12h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for text in ["", "s", "20", "0s", "-1s", "13h", "5µ", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_flag_is_in_its_page() {
        let page = include_str!("../../docs/reference/local.md");
        testing::flags::every_flag_is_in(page, &<Args as clap::CommandFactory>::command());
    }

    #[test]
    fn every_breakage_is_in_the_page() {
        let page = include_str!("../../docs/reference/local.md");
        for breakage in Breakage::value_variants().iter().filter_map(ValueEnum::to_possible_value) {
            let name = breakage.get_name();
            assert!(
                page.contains(&format!("\n| `{name}` |")),
                "docs/reference/local.md does not name --break {name}"
            );
        }
    }
}
