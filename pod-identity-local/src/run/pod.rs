//! The environment of a pod's container: its variables, its token file, and its command.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use aws_config::BehaviorVersion;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::inject::{Grant, Injector, Settings};
use pod_identity_runtime::cause::chain;
use pod_identity_runtime::clock;
use pod_identity_runtime::shutdown::Shutdown;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::program;
use crate::args::RunArgs;
use crate::report::{Failure, Report};
use crate::services::{LocalServices, Workload, write_private};

/// Lifetime of the pod token: the minimum of Kubernetes.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// Time between two replacements of the token. Kubelet replaces a token after 80 % of its lifetime.
const TOKEN_ROTATION: Duration = Duration::from_secs(480);

/// Variables and token file of a container.
pub(super) struct PodEnvironment {
    token_file: PathBuf,
    variables: Vec<(String, String)>,
}

/// The output of [`call_as_pod`].
#[derive(Serialize, Deserialize)]
struct CallerIdentity {
    arn: String,
}

impl PodEnvironment {
    pub(super) fn new(services: &LocalServices) -> std::io::Result<Self> {
        let token_file = services.directory().join("eks-pod-identity-token");
        let empty = services.directory().join("empty");
        write_private(&empty, "")?;
        let path = |path: &Path| path.display().to_string();
        let variable = |name: &str, value: String| (name.to_owned(), value);
        // The rules of the webhook give the variables of a container.
        let injector = Injector::new(Settings {
            full_uri: services.credentials_url(),
            region: Some(services.region().to_owned()),
            ..Settings::default()
        });
        let injected = injector.variables(Grant::PodIdentity, &path(&token_file));
        let mut variables: Vec<_> = injected.into_iter().map(|(name, value)| variable(name, value)).collect();
        variables.extend([
            variable("AWS_ENDPOINT_URL_STS", services.sts_url()),
            variable("AWS_CONFIG_FILE", path(&empty)),
            variable("AWS_SHARED_CREDENTIALS_FILE", path(&empty)),
            // boto3 also reads this file, before it calls the agent.
            variable("BOTO_CONFIG", path(&empty)),
            variable("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]);
        // Requests to the local services must not go through a proxy.
        for name in ["NO_PROXY", "no_proxy"] {
            let others = std::env::var(name).unwrap_or_default();
            variables.push(variable(name, with_loopback(&others)));
        }
        Ok(Self { token_file, variables })
    }

    pub(super) fn write_token(&self, token: &str) -> std::io::Result<()> {
        write_private(&self.token_file, token)
    }

    /// Replaces the token as kubelet does. It never returns.
    pub(super) async fn rotate_token(
        &self,
        services: &LocalServices,
        workload: &Workload,
    ) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(TOKEN_ROTATION).await;
            let token =
                services.token(workload, clock::now(), TOKEN_LIFETIME).map_err(|error| error.to_string());
            let written = token.and_then(|token| self.write_token(&token).map_err(|error| error.to_string()));
            match written {
                Ok(()) => tracing::info!("pod token replaced"),
                Err(error) => tracing::error!(error, "pod token not replaced"),
            }
        }
    }

    /// Acts as the pod: runs the program, or calls STS and keeps running.
    pub(super) async fn run(
        &self,
        args: &RunArgs,
        services: &LocalServices,
        report: &mut Report,
        mut shutdown: Shutdown,
    ) -> Result<ExitCode, Failure> {
        if let Some((program, rest)) = args.program.split_first() {
            // The report must not say `ok` if the program does not exist.
            program::look_up(program).map_err(|error| command_failure(program, &error))?;
            report.succeed(&self.variables, &services.inspection_url());
            return Ok(self.run_command(program, rest).await);
        }
        let arn = self.call().await?;
        report.step(
            "call",
            json!({"arn": arn}),
            format!("an app with nothing but a pod's variables calls sts:GetCallerIdentity: {arn}"),
        );
        report.succeed(&self.variables, &services.inspection_url());
        report.print(&format!("\n{arn}"));
        if !args.once {
            self.print_shell_setup(services, report);
            shutdown.asked().await;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Returns a command with this process's environment, in which the pod's variables replace every `AWS_*` variable.
    fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).kill_on_drop(true);
        command
    }

    async fn run_command(&self, program: &OsStr, args: &[OsString]) -> ExitCode {
        match wait_for_exit(self.command(program).args(args)).await {
            Ok(status) => exit_code(status),
            Err(error) => {
                let failure = command_failure(program, &error);
                failure.print();
                ExitCode::from(failure.status)
            }
        }
    }

    /// Calls STS from a separate process, because the SDK reads the variables of its process.
    async fn call(&self) -> Result<String, Failure> {
        let failed = |cause: String| Failure::new("call", ErrorCode::Internal, cause);
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = self.command(program.as_os_str());
        command.arg("call-as-pod").stdin(Stdio::null());
        let output = command.output().await.map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let identity: CallerIdentity =
            serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
        Ok(identity.arn)
    }

    fn print_shell_setup(&self, services: &LocalServices, report: &Report) {
        report.print("\nTo be this pod in another shell, paste:\n");
        report.print("  unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE \\");
        report.print("    AWS_DEFAULT_PROFILE AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE \\");
        report.print("    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI AWS_ENDPOINT_URL AWS_CA_BUNDLE");
        for (name, value) in &self.variables {
            report.print(&format!("  export {name}='{}'", value.replace('\'', r"'\''")));
        }
        report.print(&format!("\nSessions and their tags: {}/sessions", services.inspection_url()));
        report.print("The token is replaced every 8 minutes. Ctrl-C stops everything.");
    }
}

/// Adds the loopback hosts to a list of hosts that no proxy serves.
fn with_loopback(hosts: &str) -> String {
    let mut all: Vec<&str> = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
    for own in ["127.0.0.1", "localhost"] {
        if !all.contains(&own) {
            all.push(own);
        }
    }
    all.join(",")
}

/// Makes the failure of a program that does not start, with the exit status of POSIX shells.
fn command_failure(program: &OsStr, error: &std::io::Error) -> Failure {
    let name = program.to_string_lossy();
    let (code, cause, fix, status) = match error.kind() {
        std::io::ErrorKind::NotFound => (
            "command_not_found",
            format!("there is no program {name:?} on the PATH"),
            "Install it, or give another command after `--`.",
            127,
        ),
        _ => (
            "command_not_started",
            format!("{name:?}: {error}"),
            "Make it executable, or give another command after `--`.",
            126,
        ),
    };
    Failure { status, ..Failure::local("command", code, cause, fix) }
}

/// Runs a command to its end and forwards SIGTERM to it. SIGINT is ignored, because a terminal sends Ctrl-C to both
/// processes, and a shell or an interpreter does not end by it.
async fn wait_for_exit(command: &mut Command) -> std::io::Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = command.spawn()?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                if let Some(Err(error)) = id.map(|id| kill_process(id, Signal::TERM)) {
                    tracing::error!(%error, "SIGTERM not forwarded to the command");
                }
            }
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Calls `GetCallerIdentity` with the SDK's default credential chain, and prints the ARN as JSON.
pub async fn call_as_pod() -> ExitCode {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let client = aws_sdk_sts::Client::new(&config);
    match client.get_caller_identity().send().await {
        Ok(identity) => {
            println!("{}", json!(CallerIdentity { arn: identity.arn.unwrap_or_default() }));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
