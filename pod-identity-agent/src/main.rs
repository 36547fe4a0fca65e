//! `eks-pod-identity-agent`: the node agent of EKS Pod Identity.

use std::process::ExitCode;

use clap::Parser;
use pod_identity_agent::app::App;
use pod_identity_agent::args::{Args, Command};
use pod_identity_runtime::{logs, process, shutdown::Shutdown};

// One thread: requests cost less without hand-over between threads.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Args { command: Command::Server(args), log_level, log_format } = Args::parse();
    let _flush = logs::start(log_level, log_format, &[]);
    process::forbid_dumps();
    let run = async {
        let config = args.config()?;
        let shutdown = Shutdown::on_signal()?;
        App::bind(config).await?.run(shutdown).await?;
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
