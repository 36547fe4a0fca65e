//! What a pod's container would have: its variables, its token file, and its command.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use aws_config::BehaviorVersion;
use pod_identity_core::error::ErrorCode;
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
use crate::laptop::{Laptop, Workload, write_private};
use crate::report::{Failure, Report};

/// The life of the pod's token: the shortest that Kubernetes gives, ten minutes.
pub(super) const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// When kubelet replaces such a token: after 80 % of its life.
const TOKEN_ROTATION: Duration = Duration::from_secs(480);

/// A container's view: variables and files.
pub(super) struct PodEnvironment {
    token_file: PathBuf,
    variables: Vec<(String, String)>,
}

/// What [`call_as_pod`] prints.
#[derive(Serialize, Deserialize)]
struct CallerIdentity {
    arn: String,
}

impl PodEnvironment {
    pub(super) fn new(laptop: &Laptop) -> std::io::Result<Self> {
        let token_file = laptop.directory().join("eks-pod-identity-token");
        let empty = laptop.directory().join("empty");
        write_private(&empty, "")?;
        let path = |path: &Path| path.display().to_string();
        let variable = |name: &str, value: String| (name.to_owned(), value);
        let mut variables = vec![
            variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", laptop.credentials_url()),
            variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path(&token_file)),
            variable("AWS_REGION", laptop.region().to_owned()),
            // The aws CLI and boto3 read only this one.
            variable("AWS_DEFAULT_REGION", laptop.region().to_owned()),
            variable("AWS_ENDPOINT_URL_STS", laptop.sts_url()),
            variable("AWS_CONFIG_FILE", path(&empty)),
            variable("AWS_SHARED_CREDENTIALS_FILE", path(&empty)),
            // boto3 reads this one too, and before it asks an agent.
            variable("BOTO_CONFIG", path(&empty)),
            variable("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ];
        // Behind a proxy the laptop's own addresses must not go there.
        for name in ["NO_PROXY", "no_proxy"] {
            let others = std::env::var(name).unwrap_or_default();
            variables.push(variable(name, with_loopback(&others)));
        }
        Ok(Self { token_file, variables })
    }

    pub(super) fn write_token(&self, token: &str) -> std::io::Result<()> {
        write_private(&self.token_file, token)
    }

    /// Replaces the token as kubelet does, for ever.
    pub(super) async fn rotate_token(
        &self,
        laptop: &Laptop,
        workload: &Workload,
    ) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(TOKEN_ROTATION).await;
            let token =
                laptop.token(workload, clock::now(), TOKEN_LIFETIME).map_err(|error| error.to_string());
            let written = token.and_then(|token| self.write_token(&token).map_err(|error| error.to_string()));
            match written {
                Ok(()) => tracing::info!("the pod's token was replaced"),
                Err(error) => tracing::error!(error, "the pod's token was not replaced"),
            }
        }
    }

    /// Is the pod: runs the command, or makes a call and stays up.
    pub(super) async fn be(
        &self,
        args: &RunArgs,
        laptop: &Laptop,
        report: &mut Report,
        mut shutdown: Shutdown,
    ) -> Result<ExitCode, Failure> {
        if let Some((program, rest)) = args.program.split_first() {
            // An object that says `ok` must not stand before a command that there is not.
            program::look_up(program).map_err(|error| not_started(program, &error))?;
            report.hold(&self.variables, &laptop.inspection_url());
            return Ok(self.run_command(program, rest).await);
        }
        let arn = self.call().await?;
        report.link(
            "call",
            json!({"arn": arn}),
            format!("an app with nothing but a pod's variables calls sts:GetCallerIdentity: {arn}"),
        );
        report.hold(&self.variables, &laptop.inspection_url());
        report.say(&format!("\n{arn}"));
        if !args.once {
            self.invite(laptop, report);
            shutdown.asked().await;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The command with the caller's environment, but for everything of AWS's.
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
        match status(self.command(program).args(args)).await {
            Ok(status) => exit_code(status),
            Err(error) => {
                let failure = not_started(program, &error);
                failure.tell();
                ExitCode::from(failure.status)
            }
        }
    }

    /// Calls STS from a process of its own, since a process's variables are what it is about.
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

    fn invite(&self, laptop: &Laptop, report: &Report) {
        report.say("\nTo be this pod in another shell, paste:\n");
        report.say("  unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE \\");
        report.say("    AWS_DEFAULT_PROFILE AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE \\");
        report.say("    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI AWS_ENDPOINT_URL AWS_CA_BUNDLE");
        for (name, value) in &self.variables {
            report.say(&format!("  export {name}='{}'", value.replace('\'', r"'\''")));
        }
        report.say(&format!("\nSessions and their tags: {}/sessions", laptop.inspection_url()));
        report.say("The token is replaced every 8 minutes. Ctrl-C ends it all.");
    }
}

/// The hosts that no proxy serves, and the laptop's own among them.
fn with_loopback(hosts: &str) -> String {
    let mut all: Vec<&str> = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).collect();
    for own in ["127.0.0.1", "localhost"] {
        if !all.contains(&own) {
            all.push(own);
        }
    }
    all.join(",")
}

/// Why a command does not run, with the statuses of POSIX shells.
fn not_started(program: &OsStr, error: &std::io::Error) -> Failure {
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

/// Runs a command to its end. Ctrl-C is the command's alone: a terminal sends it to both, and a shell or
/// an interpreter lives on. SIGTERM is for whoever was started, so it is handed on.
async fn status(command: &mut Command) -> std::io::Result<ExitStatus> {
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
                    tracing::error!(%error, "SIGTERM was not handed on to the command");
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

/// What an app does: credentials from the SDK's default chain, one call, its ARN as JSON.
pub async fn call_as_pod() -> ExitCode {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let client = aws_sdk_sts::Client::new(&config);
    match client.get_caller_identity().send().await {
        Ok(answer) => {
            println!("{}", json!(CallerIdentity { arn: answer.arn.unwrap_or_default() }));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
