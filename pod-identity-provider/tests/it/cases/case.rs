//! The files of a test case.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::replay::Exchange;

#[derive(Debug)]
pub(super) struct Case {
    pub(super) folder: PathBuf,
    /// `env.json`: the environment variables. `${fs}` is the path of the folder `fs`, and `${port}` the endpoint's port.
    pub(super) env: BTreeMap<String, String>,
    /// `http-traffic.json`: requests and responses. Without this file no request is allowed.
    pub(super) traffic: Vec<Exchange>,
    /// `test-case.json`: client, time limits and expected result.
    pub(super) test: Test,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    /// The purpose of the case and the source of its rule.
    #[allow(dead_code)] // for readers of the case
    docs: String,
    #[serde(default)]
    pub(super) client: Client,
    /// The addresses of each name, one list for each lookup. Without this field the system resolves names.
    pub(super) dns: Option<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    #[serde(default = "attempt_timeout")]
    pub(super) attempt_timeout_ms: u64,
    #[serde(default = "deadline")]
    pub(super) deadline_ms: u64,
    /// Runs the case only in a build without this feature.
    pub(super) without_feature: Option<String>,
    /// Texts that the log must contain exactly once.
    #[serde(default)]
    pub(super) logs_once: Vec<String>,
    /// Secrets in addition to those of the traffic.
    #[serde(default)]
    pub(super) secrets: Vec<String>,
    pub(super) result: Expected,
}

/// The HTTP client of the case.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Client {
    /// A client that sends requests for any host to the endpoint.
    #[default]
    Mapped,
    /// The provider's default client.
    Own,
    /// The provider's default client. `${port}` is a port without a listener.
    ClosedPort,
}

#[derive(Debug, Deserialize)]
pub(super) enum Expected {
    Ok(ExpectedCredentials),
    Err(ExpectedError),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedCredentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: String,
    pub(super) expiration: String,
    pub(super) account_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectedError {
    /// The variant of `CredentialsError`.
    pub(super) kind: String,
    pub(super) code: Option<String>,
    pub(super) retryable: bool,
    /// Texts that the error must contain.
    pub(super) contains: Vec<String>,
    /// Texts that the error must not contain.
    #[serde(default)]
    pub(super) does_not_contain: Vec<String>,
}

fn attempt_timeout() -> u64 {
    10_000
}

fn deadline() -> u64 {
    20_000
}

impl Case {
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())? {
            let name = entry.map_err(|error| error.to_string())?.file_name();
            if !["env.json", "fs", "http-traffic.json", "test-case.json"].map(Into::into).contains(&name) {
                return Err(format!("{name:?} is not a file of a case"));
            }
        }
        let traffic = folder.join("http-traffic.json");
        Ok(Self {
            folder: folder.to_owned(),
            env: read(&folder.join("env.json"))?,
            traffic: if traffic.exists() { read(&traffic)? } else { Vec::new() },
            test: read(&folder.join("test-case.json"))?,
        })
    }

    /// Returns the tokens in files and variables. They are truncated, because an error may contain only a part of a token.
    pub(super) fn tokens(&self) -> Vec<String> {
        const MAX_LENGTH: usize = 64;
        let files = std::fs::read_dir(self.folder.join("fs")).into_iter().flatten();
        let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        let files = files.map(|content| String::from_utf8_lossy(&content).into_owned());
        let variables = self.env.iter().filter(|(name, _)| name.ends_with("_TOKEN"));
        let texts = variables.map(|(_, value)| value.clone()).chain(files);
        let lines =
            texts.flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
        lines.filter(|line| !line.is_empty()).map(|line| line.chars().take(MAX_LENGTH).collect()).collect()
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}
