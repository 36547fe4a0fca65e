//! The chain, link by link, for people and for programs.

use std::io::Write;

use pod_identity_core::error::ErrorCode;
use serde::{Serialize, Serializer};
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
    /// What went wrong: a line for each who tells it.
    #[serde(serialize_with = "in_one_line")]
    pub cause: Vec<String>,
    /// How to mend it.
    pub fix: String,
    /// The status to exit with.
    #[serde(skip)]
    pub status: u8,
}

fn in_one_line<S: Serializer>(lines: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&lines.join(" "))
}

impl Failure {
    /// A failure with one of the project's codes.
    pub fn new(link: &'static str, code: ErrorCode, cause: impl Into<String>) -> Self {
        Self::local(link, code.as_str(), cause, code.fix())
    }

    /// A failure of the laptop program itself, which has its own codes.
    pub fn local(link: &'static str, code: &str, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { link, code: code.to_owned(), cause: vec![cause.into()], fix: fix.into(), status: 1 }
    }

    /// Tells people, on standard error.
    pub fn tell(&self) {
        match self.link {
            "start" | "command" => eprintln!("\nerror[{}]", self.code),
            link => eprintln!("\nerror[{}]: the {link} link does not hold", self.code),
        }
        eprintln!("  cause: {}", self.cause.join("\n         "));
        eprintln!("  fix:   {}", self.fix);
    }
}

/// Where the chain is shown.
#[derive(Debug)]
pub struct Report {
    output: Output,
    to_stderr: bool,
    principal: Option<String>,
    links: Vec<Link>,
}

impl Report {
    /// A report in that form; on standard error where standard output is a command's.
    pub fn new(output: Output, to_stderr: bool) -> Self {
        Self { output, to_stderr, principal: None, links: Vec::new() }
    }

    /// Says something beside the chain; programs do not read it.
    pub fn say(&self, text: &str) {
        if self.output == Output::Text {
            self.write(text);
        }
    }

    /// Remembers as whom the auth service acts: a service, or a role by its ARN.
    pub fn acts_as(&mut self, principal: String) {
        self.principal = Some(principal);
    }

    /// Shows a link that held.
    pub fn link(&mut self, link: &'static str, facts: Value, checked: impl Into<String>) {
        self.link_with_parts(link, facts, checked, &[]);
    }

    /// Shows a link that held and has parts, which people get on lines of their own.
    pub fn link_with_parts(
        &mut self,
        link: &'static str,
        facts: Value,
        checked: impl Into<String>,
        parts: &[String],
    ) {
        let mut checked = checked.into();
        let below: String = parts.iter().map(|part| format!("\n{:17}{part}", "")).collect();
        self.say(&format!("ok  {link:<12} {checked}{below}"));
        if !parts.is_empty() {
            checked = format!("{checked} {}", parts.join(", "));
        }
        self.links.push(Link { link, checked, facts });
    }

    /// Shows that every link held, and what can be used from now on.
    pub fn hold(&self, environment: &[(String, String)], inspection_url: &str) {
        self.end(None, environment, Some(inspection_url));
    }

    /// Shows the link that does not hold.
    pub fn fail(&self, failure: &Failure) {
        self.end(Some(failure), &[], None);
        failure.tell();
    }

    /// For programs, everything in one object.
    fn end(&self, failure: Option<&Failure>, environment: &[(String, String)], inspection_url: Option<&str>) {
        if self.output == Output::Json {
            let environment: Value =
                environment.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
            let all = serde_json::json!({
                "ok": failure.is_none(),
                "principal": self.principal,
                "chain": self.links,
                "error": failure,
                "environment": environment,
                "inspectionUrl": inspection_url,
            });
            self.write(&format!("{all:#}"));
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
