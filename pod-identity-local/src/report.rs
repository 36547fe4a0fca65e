//! The chain, link by link, for people and for programs.

use std::io::Write;

use pod_identity_core::error::ErrorCode;
use serde::Serialize;
use serde_json::Value;

use crate::args::Output;

/// A link of the chain that held, with what was checked.
#[derive(Debug, Clone, Serialize)]
pub struct Link {
    /// Its name: `token`, `association`, `trust`, `session`, `credentials` or `call`.
    pub link: &'static str,
    /// What was checked, for people.
    pub checked: String,
    /// The same for programs.
    pub facts: Value,
}

/// Why the chain does not hold.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// The link that broke; `start` or `command` where it is none of the chain.
    pub link: &'static str,
    /// The stable code.
    pub code: String,
    /// What went wrong.
    pub cause: String,
    /// How to mend it.
    pub fix: String,
}

impl Failure {
    /// A failure with one of the project's codes.
    pub fn new(link: &'static str, code: ErrorCode, cause: impl Into<String>) -> Self {
        Self { link, code: code.to_string(), cause: cause.into(), fix: code.fix().to_owned() }
    }

    /// A failure of the laptop program itself, which has its own codes.
    pub fn local(link: &'static str, code: &str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { link, code: code.to_owned(), cause: cause.into(), fix: fix.into() }
    }

    /// Tells people, on standard error.
    pub fn tell(&self) {
        match self.link {
            "start" | "command" => eprintln!("\nerror[{}]", self.code),
            link => eprintln!("\nerror[{}]: the {link} link does not hold", self.code),
        }
        eprintln!("  cause: {}", self.cause);
        eprintln!("  fix:   {}", self.fix);
    }
}

/// Where the chain is shown.
#[derive(Debug)]
pub struct Report {
    output: Output,
    to_stderr: bool,
    links: Vec<Link>,
}

impl Report {
    /// A report in that form; on standard error where standard output is a command's.
    pub fn new(output: Output, to_stderr: bool) -> Self {
        Self { output, to_stderr, links: Vec::new() }
    }

    /// Says something beside the chain; programs do not read it.
    pub fn say(&self, text: &str) {
        if self.output == Output::Text {
            self.write(text);
        }
    }

    /// Shows a link that held.
    pub fn link(&mut self, link: &'static str, facts: Value, checked: impl Into<String>) {
        let link = Link { link, checked: checked.into(), facts };
        self.say(&format!("ok  {:<12} {}", link.link, link.checked));
        self.links.push(link);
    }

    /// Shows the end: for programs, everything in one object.
    pub fn end(&self, failure: Option<&Failure>, environment: &[(String, String)]) {
        if self.output == Output::Json {
            let environment: Value =
                environment.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
            let all = serde_json::json!({
                "ok": failure.is_none(),
                "chain": self.links,
                "error": failure,
                "environment": environment,
            });
            self.write(&format!("{all:#}"));
        }
        if let Some(failure) = failure {
            failure.tell();
        }
    }

    fn write(&self, text: &str) {
        // A reader that went away is no reason to fail.
        let _ = if self.to_stderr {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }
}
