//! The files of a case.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::replay::Exchange;

#[derive(Debug)]
pub(super) struct Case {
    pub(super) folder: PathBuf,
    /// `env.json`: the variables. `${fs}` is the folder `fs`, `${port}` the endpoint's port.
    pub(super) env: BTreeMap<String, String>,
    /// `http-traffic.json`: requests and responses. Without the file no request is allowed.
    pub(super) traffic: Vec<Exchange>,
    /// `test-case.json`.
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
    /// The addresses of names for each lookup. Without them the system resolves names.
    pub(super) dns: Option<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    #[serde(default = "attempt_timeout")]
    pub(super) attempt_timeout_ms: u64,
    #[serde(default = "deadline")]
    pub(super) deadline_ms: u64,
    /// The case is for a build without this feature.
    pub(super) without_feature: Option<String>,
    /// Texts that are logged once each.
    #[serde(default)]
    pub(super) logs_once: Vec<String>,
    /// Secrets besides those of the traffic.
    #[serde(default)]
    pub(super) secrets: Vec<String>,
    pub(super) result: Expected,
}

/// The HTTP client of the case.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Client {
    /// A client that sends requests for any host to the endpoint.
    #[default]
    Mapped,
    /// The provider's own.
    Own,
    /// The provider's own, and nothing listens.
    Nobody,
}

#[derive(Debug, Deserialize)]
pub(super) enum Expected {
    Ok(Credentials),
    Err(Failure),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    pub(super) session_token: String,
    pub(super) expiration: String,
    pub(super) account_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failure {
    /// The variant of `CredentialsError`.
    pub(super) kind: String,
    pub(super) code: Option<String>,
    pub(super) retryable: bool,
    /// Texts of the error.
    pub(super) says: Vec<String>,
    /// Texts that the error must not hold.
    #[serde(default)]
    pub(super) says_not: Vec<String>,
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
                return Err(format!("{name:?} is no part of a case"));
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

    /// Returns the lines of the files and of variables with tokens, cut to the length that an error might quote.
    pub(super) fn tokens(&self) -> Vec<String> {
        const AS_QUOTED: usize = 64;
        let files = std::fs::read_dir(self.folder.join("fs")).into_iter().flatten();
        let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        let files = files.map(|content| String::from_utf8_lossy(&content).into_owned());
        let variables = self.env.iter().filter(|(name, _)| name.ends_with("_TOKEN"));
        let texts = variables.map(|(_, value)| value.clone()).chain(files);
        let lines =
            texts.flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
        lines.filter(|line| !line.is_empty()).map(|line| line.chars().take(AS_QUOTED).collect()).collect()
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}
