//! `pod-identity-webhook`: the admission webhook of EKS Pod Identity and IRSA, and its report.

use std::process::ExitCode;

use pod_identity_runtime::{logs, process, shutdown::Shutdown};
use pod_identity_webhook::app::App;
use pod_identity_webhook::args::{Args, parse};
use pod_identity_webhook::report::Report;

// One thread: a review is some microseconds of work, and handing it between two costs more than that.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = parse(process::command_line(std::env::args_os())).unwrap_or_else(|error| error.exit());
    let _flush = logs::start(args.log_level(), args.log_format(), &[]);
    process::forbid_dumps();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let config = args.config()?;
    let shutdown = Shutdown::on_signal()?;
    match config.report_interval {
        Some(interval) => Report::bind(config, interval).await?.run(shutdown).await?,
        None => App::bind(config).await?.run(shutdown).await?,
    }
    Ok(())
}
