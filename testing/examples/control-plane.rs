//! A Kubernetes control plane for one command, as the tests have it:
//! `cargo run -p testing --features cluster --example control-plane -- kubectl get namespaces`.
//!
//! The command runs in the control plane's network, with `KUBECONFIG` naming the admin's file. Without a
//! command it only says how long the start took: the programs are built then, if they were not.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::{Command, ExitCode};

    let from = tokio::time::Instant::now();
    let Some(cluster) = testing::cluster::Cluster::start() else { return ExitCode::FAILURE };
    eprintln!("a control plane is ready after {:.1} s", from.elapsed().as_secs_f32());
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
    eprintln!("this needs Linux: it makes a network namespace");
}
