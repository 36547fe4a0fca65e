//! `pod-identity-auth`: EKS Auth for clusters that are not EKS.

use std::process::ExitCode;

use clap::Parser;
use pod_identity_auth::app::App;
use pod_identity_auth::args::Args;
use pod_identity_auth::{audit, sts};
use pod_identity_runtime::{logs, process, shutdown::Shutdown};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let _flush = logs::start(args.log_level, args.log_format, &[audit::TARGET]);
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
    let sts = sts::client_from_environment(&config.outbound).await?;
    App::bind(config, sts).await?.run(shutdown).await?;
    Ok(())
}
