//! Structured logs on standard error.

mod fault;
mod limiter;
mod writer;

pub use fault::{FAULT_REPEAT, Fault};
pub use limiter::LogLimiter;
pub use writer::{Acknowledgement, acknowledged, register};

use std::io::IsTerminal;
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use self::writer::LogWriter;

/// The crates of this project, by the targets of their log lines.
const OWN_TARGETS: [&str; 6] = [
    "pod_identity_core",
    "pod_identity_runtime",
    "pod_identity_auth",
    "pod_identity_agent",
    "pod_identity_local",
    "pod_identity_webhook",
];

/// The log levels of libraries. Some lines of libraries contain secrets, so they are off at every level. The AWS SDK's
/// trace lines contain requests, and a warning of its metadata client contains a whole response. A line of kube's
/// client contains a response that it cannot parse, which may be a Secret.
const LIBRARIES: &str = "warn,aws_config=error,aws_runtime=error,aws_smithy_runtime=error,\
    aws_smithy_http_client=error,kube_client=error";

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One line of text, for people.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("{other:?} is not a log format, want text or json")),
        }
    }
}

/// The log level: `error`, `warn`, `info`, `debug` or `trace`. The names `panic`, `fatal` and `warning` of logrus are
/// accepted, too, as in AWS's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(LevelFilter);

impl LogLevel {
    /// Returns the level of a verbosity of klog (Kubernetes' logging conventions): info for 0 and 1, debug from 2,
    /// trace from 6.
    pub fn of_klog(verbosity: u8) -> Self {
        Self(match verbosity {
            0..=1 => LevelFilter::INFO,
            2..=5 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = match text.to_ascii_lowercase().as_str() {
            "panic" | "fatal" => "error".to_owned(),
            "warning" => "warn".to_owned(),
            other => other.to_owned(),
        };
        name.parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is not a log level, want error, warn, info, debug or trace"))
    }
}

/// Maximum time at the end of the process to write the queued lines.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Writes the queued lines when it is dropped, at the end of the process, for up to 1 s.
#[derive(Debug)]
#[must_use = "the last lines are lost if this is dropped at once"]
pub struct LogGuard(Option<LogWriter>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(writer) = &self.0 {
            writer.flush(FLUSH_LIMIT);
        }
    }
}

/// Starts logging. Call it once per process. Lines of the `audit` targets are written at any level.
///
/// A thread writes the lines. A line that cannot be written is dropped and counted ([`register`]), and no caller
/// waits. A panic is logged as one line. The level applies to the lines of this project, which never contain a secret.
pub fn start(level: LogLevel, format: LogFormat, audit: &[&str]) -> LogGuard {
    let own = OWN_TARGETS.iter().map(|target| format!("{target}={}", level.0));
    let always = audit.iter().map(|target| format!("{target}=info"));
    let filter = own
        .chain(always)
        .filter_map(|directive| directive.parse().ok())
        .fold(EnvFilter::new(LIBRARIES), EnvFilter::add_directive);
    // Without a thread, logging is impossible, and so is a report of it.
    let Ok(writer) = LogWriter::start(audit) else { return LogGuard(None) };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer.clone())
        .log_internal_errors(false) // those go to standard error and panic if it fails
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
        return LogGuard(None);
    }
    std::panic::set_hook(Box::new(log_panic));
    LogGuard(Some(writer))
}

/// Logs a panic, because the default hook writes to standard error itself and waits for it.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or_default();
    let location = panic.location().map(tracing::field::display);
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then_some(backtrace);
    let backtrace = backtrace.as_ref().map(tracing::field::display);
    tracing::error!(location, backtrace, "panic, which is a bug of the program: {message}");
}
