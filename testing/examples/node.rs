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
    let Some(program) = arguments.first() else {
        let command = node.network_command(node.kubectl_program());
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.display().to_string()).collect();
        let kubeconfig = node.kubeconfig();
        eprintln!("in another terminal: KUBECONFIG={} {} get pods -A", kubeconfig.display(), words.join(" "));
        eprintln!("Ctrl-C ends the node");
        loop {
            std::thread::park();
        }
    };
    let mut command = node.network_command(program);
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
