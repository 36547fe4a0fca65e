//! `eks-pod-identity-agent`: the node agent of EKS Pod Identity.

use std::process::ExitCode;

use clap::Parser;
use pod_identity_agent::app::App;
use pod_identity_agent::args::{Args, Command};
use pod_identity_agent::network::capability;
use pod_identity_runtime::{logs, process, shutdown::Shutdown};

// One thread: requests cost less without hand-over between threads.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Args { command, log_level, log_format } =
        Args::parse_from(process::command_line(std::env::args_os()));
    let raised = if matches!(command, Command::Server(_)) { capability::raise() } else { Ok(()) };
    let _flush = logs::start(log_level, log_format, &[]);
    process::forbid_dumps();
    if let Err(error) = raised {
        tracing::warn!(%error, "capability NET_BIND_SERVICE not raised");
    }
    match run(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Server(args) => {
            let config = args.config()?;
            let shutdown = Shutdown::on_signal()?;
            App::bind(config).await?.run(shutdown).await?;
        }
        #[cfg(target_os = "linux")]
        Command::Initialize(args) => {
            pod_identity_agent::initialize::run(&args.bind_hosts, args.action()).await?;
        }
    }
    Ok(())
}
