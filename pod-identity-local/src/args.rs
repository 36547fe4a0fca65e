//! Command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use pod_identity_core::identity::{ClusterName, Namespace, PodName, ServiceAccount};
use pod_identity_runtime::logs::LogLevel;

use crate::fault::Fault;

/// EKS Pod Identity on one machine, without an AWS account and without a cluster.
#[derive(Debug, Parser)]
#[command(name = "pod-identity-local", version)]
pub struct Args {
    /// The command.
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

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the path from a pod token to credentials step by step, then run a command with a pod's environment.
    Run(RunArgs),
    /// Serve the local STS as the AWS of a test cluster, until SIGTERM.
    Aws(AwsArgs),
    /// Print the built-in fixture file.
    Sample,
    /// Call STS with the environment variables of a pod.
    #[command(hide = true)]
    CallAsPod,
}

/// The format of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line for each step, for people.
    Text,
    /// One JSON object, for programs.
    Json,
}

/// The flags of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The fixture file with AWS accounts, callers, roles, clusters and associations. Default: the built-in file.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The pod's cluster. Default: the first cluster of the file.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<ClusterName>,

    /// The pod's namespace. Default: the namespace of the cluster's first association.
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<Namespace>,

    /// The pod's service account. Default: the service account of the cluster's first association.
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<ServiceAccount>,

    /// The pod's name.
    #[arg(long, value_name = "NAME", default_value = "app-1")]
    pub pod: PodName,

    /// Run the auth service with an IAM role, as on a cluster of your own. Default: EKS's service principal.
    #[arg(long)]
    pub self_managed: bool,

    /// Inject one fault, to see its error message.
    #[arg(long = "break", value_name = "WHERE", value_enum)]
    pub fault: Option<Fault>,

    /// The format of the report.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    pub output: Output,

    /// Exit after the call. Default: keep running until Ctrl-C.
    #[arg(long, conflicts_with = "program")]
    pub once: bool,

    /// Maximum lifetime of a session, for example 20s, for tests. The minimum of AWS is 15 minutes.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub expire_after: Option<Duration>,

    /// The command to run with the pod's environment, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    pub program: Vec<OsString>,
}

/// The flags of `aws`.
#[derive(Debug, clap::Args)]
pub struct AwsArgs {
    /// The address and port of the STS. Port 0: any free port, which the program prints.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// The fixture file with AWS accounts, roles, access keys and OIDC providers.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub file: PathBuf,

    /// The issuer of the cluster's tokens, as in their claim iss.
    #[arg(long, value_name = "URL")]
    pub issuer: String,

    /// The URL of the issuer's key set, for example https://API-SERVER/openid/v1/jwks.
    #[arg(long, value_name = "URL")]
    pub jwks_url: String,

    /// CA certificates (PEM) for --jwks-url, in addition to the system's.
    #[arg(long, value_name = "FILE")]
    pub jwks_ca_file: Option<PathBuf>,

    /// A file with a bearer token for --jwks-url, read at each fetch.
    #[arg(long, value_name = "FILE")]
    pub jwks_token_file: Option<PathBuf>,

    /// Serve https, and write the new CA's certificate (PEM) to this file. Default: http.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// A further host name or address in the certificate. Repeatable. It has localhost and the address of --listen.
    #[arg(long, value_name = "NAME", requires = "ca_file")]
    pub tls_name: Vec<String>,

    /// Write the URL of the STS to this file when the issuer's keys are fetched.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration such as 20s or 5m");
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(invalid()),
    };
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| (1..=43_200).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is not between 1s and 12h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_needs_a_unit() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for text in ["", "s", "20", "0s", "-1s", "13h", "5µ", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn docs_list_every_flag() {
        let page = include_str!("../../docs/reference/local.md");
        testing::flags::every_flag_is_in(page, &<Args as clap::CommandFactory>::command());
    }

    #[test]
    fn docs_list_every_fault() {
        let page = include_str!("../../docs/reference/local.md");
        for fault in Fault::value_variants().iter().filter_map(ValueEnum::to_possible_value) {
            let name = fault.get_name();
            assert!(
                page.contains(&format!("\n| `{name}` |")),
                "docs/reference/local.md does not name --break {name}"
            );
        }
    }
}
