//! The report of a run: one entry for each step, as text or as JSON.

use std::io::Write;

use pod_identity_core::error::ErrorCode;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::args::Output;

/// A step that succeeded.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The step's name: `token`, `association`, `trust`, `session`, `credentials` or `call`.
    #[serde(rename = "link")]
    pub name: &'static str,
    /// The checked facts as a sentence.
    pub checked: String,
    /// The checked facts as JSON.
    pub facts: Value,
}

/// Why the run failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// The step that failed, or `start` or `command`.
    #[serde(rename = "link")]
    pub step: &'static str,
    /// The stable error code.
    pub code: String,
    /// The cause, one line for each source.
    #[serde(serialize_with = "joined")]
    pub cause: Vec<String>,
    /// The fix.
    pub fix: String,
    /// The exit status.
    #[serde(skip)]
    pub status: u8,
}

fn joined<S: Serializer>(lines: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&lines.join(" "))
}

impl Failure {
    /// Makes a failure with one of the project's error codes.
    pub fn new(step: &'static str, code: ErrorCode, cause: impl Into<String>) -> Self {
        Self::local(step, code.as_str(), cause, code.fix())
    }

    /// Makes a failure with one of this program's own codes.
    pub fn local(step: &'static str, code: &str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { step, code: code.to_owned(), cause: vec![cause.into()], fix: fix.into(), status: 1 }
    }

    /// Prints the failure on standard error.
    pub fn print(&self) {
        match self.step {
            "start" | "command" => eprintln!("\nerror[{}]", self.code),
            step => eprintln!("\nerror[{}]: the {step} step failed", self.code),
        }
        eprintln!("  cause: {}", self.cause.join("\n         "));
        eprintln!("  fix:   {}", self.fix);
    }
}

/// Prints the steps of a run.
#[derive(Debug)]
pub struct Report {
    output: Output,
    to_stderr: bool,
    principal: Option<String>,
    steps: Vec<Step>,
}

impl Report {
    /// Creates a report. It goes to standard error if a command uses standard output.
    pub fn new(output: Output, to_stderr: bool) -> Self {
        Self { output, to_stderr, principal: None, steps: Vec::new() }
    }

    /// Prints a line in the text format only.
    pub fn print(&self, text: &str) {
        if self.output == Output::Text {
            self.write(text);
        }
    }

    /// Sets the principal of the auth service: a service name or a role's ARN.
    pub fn set_principal(&mut self, principal: String) {
        self.principal = Some(principal);
    }

    /// Reports a step that succeeded.
    pub fn step(&mut self, name: &'static str, facts: Value, checked: impl Into<String>) {
        self.step_with_details(name, facts, checked, &[]);
    }

    /// Reports a step that succeeded, with details on separate lines.
    pub fn step_with_details(
        &mut self,
        name: &'static str,
        facts: Value,
        checked: impl Into<String>,
        details: &[String],
    ) {
        let mut checked = checked.into();
        let below: String = details.iter().map(|detail| format!("\n{:17}{detail}", "")).collect();
        self.print(&format!("ok  {name:<12} {checked}{below}"));
        if !details.is_empty() {
            checked = format!("{checked} {}", details.join(", "));
        }
        self.steps.push(Step { name, checked, facts });
    }

    /// Reports the success of every step.
    pub fn succeed(&self, environment: &[(String, String)], inspection_url: &str) {
        self.finish(None, environment, Some(inspection_url));
    }

    /// Reports a failure.
    pub fn fail(&self, failure: &Failure) {
        self.finish(Some(failure), &[], None);
        failure.print();
    }

    /// Prints the whole report as one object, in the JSON format only.
    fn finish(
        &self,
        failure: Option<&Failure>,
        environment: &[(String, String)],
        inspection_url: Option<&str>,
    ) {
        if self.output == Output::Json {
            let environment: Value =
                environment.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
            let all = serde_json::json!({
                "ok": failure.is_none(),
                "principal": self.principal,
                "chain": self.steps,
                "error": failure,
                "environment": environment,
                "inspectionUrl": inspection_url,
            });
            self.write(&format!("{all:#}"));
        }
    }

    fn write(&self, text: &str) {
        // A closed pipe is not a failure of the run.
        let _ = if self.to_stderr {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }
}
