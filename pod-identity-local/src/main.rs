//! `pod-identity-local`: EKS Pod Identity on one machine.

use std::process::ExitCode;

use clap::Parser;
use pod_identity_local::args::{Args, Command};
use pod_identity_local::{aws, run, sample};
use pod_identity_runtime::{logs, process};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    process::forbid_dumps();
    let _flush = logs::start(args.log_level, logs::LogFormat::Text, &[]);
    match args.command {
        Command::Run(options) => run::run(options).await,
        Command::Aws(options) => aws::run(options).await,
        Command::Sample => sample::print(),
        Command::CallAsPod => run::call_as_pod().await,
    }
}
