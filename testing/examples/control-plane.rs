//! Runs one command with the Kubernetes control plane of the tests:
//! `cargo run -p testing --features cluster --example control-plane -- kubectl get namespaces`.
//!
//! The command runs in the control plane's network. `KUBECONFIG` is the path of a file with all rights. Without a command
//! the example builds and starts the control plane, and prints the time of the start.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::{Command, ExitCode};

    let start = tokio::time::Instant::now();
    let Some(cluster) = testing::cluster::Cluster::start() else { return ExitCode::FAILURE };
    eprintln!("control plane ready after {:.1} s", start.elapsed().as_secs_f32());
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else { return ExitCode::SUCCESS };
    let mut command = Command::new(program);
    command.args(arguments).env("KUBECONFIG", cluster.kubeconfig());
    match cluster.run(async move || command.status()) {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the command cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the control plane needs Linux, for a network namespace");
}
