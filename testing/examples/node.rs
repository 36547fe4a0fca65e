//! Runs one command with the Kubernetes node of the tests:
//! `cargo run -p testing --features cluster --example node -- kubectl get pods -A`.
//!
//! The command runs in the node's network. `KUBECONFIG` is the path of a file with all rights. Without a command the
//! example prints how to use the node, and runs until Ctrl-C.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let start = tokio::time::Instant::now();
    let Some(node) = testing::node::Node::start() else { return ExitCode::FAILURE };
    eprintln!("node ready after {:.1} s", start.elapsed().as_secs_f32());
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut command = node.network_command(arguments.first().map_or("kubectl".as_ref(), |program| program));
    if arguments.is_empty() {
        let mut words = vec![format!("KUBECONFIG={}", node.kubeconfig().display())];
        words.extend(
            [command.get_program()]
                .into_iter()
                .chain(command.get_args())
                .map(|word| word.display().to_string()),
        );
        eprintln!("in another terminal: {} get pods -A\nCtrl-C ends the node", words.join(" "));
        loop {
            std::thread::park();
        }
    }
    match command.args(&arguments[1..]).status() {
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
    eprintln!("the node needs Linux, for namespaces");
}
