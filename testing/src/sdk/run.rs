//! Running a program in an environment that holds nothing but what a test gives.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// What a program printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// The JSON that it printed.
    ///
    /// # Panics
    ///
    /// It printed something else; the message holds all of it.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}) in {self:#?}"))
    }
}

/// A program at work; ended when dropped.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    /// Its `HOME`, removed after it.
    _home: TempDir,
}

impl Running {
    #[track_caller]
    pub(super) fn start(mut command: Command, env: &[(&str, &str)], home: TempDir) -> Self {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home.path())
            .envs(env.iter().copied())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child: Some(child), _home: home }
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// Its output cannot be read.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        let Some(child) = self.child.take() else {
            unreachable!("only `finish` takes the child, and itself with it")
        };
        let output =
            child.wait_with_output().unwrap_or_else(|error| panic!("cannot read its output: {error}"));
        Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A new, empty home.
#[track_caller]
pub(super) fn home() -> TempDir {
    TempDir::with_prefix("sdk-home-")
        .unwrap_or_else(|error| panic!("cannot make a temporary directory: {error}"))
}

/// Puts every script of `sources` into `home`, beside a link to `node_modules`.
pub(super) fn link_scripts(sources: &Path, node_modules: &Path, home: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sources)? {
        let entry = entry?;
        if entry.path().extension() == Some(OsStr::new("mjs")) {
            fs::copy(entry.path(), home.join(entry.file_name()))?;
        }
    }
    symlink(fs::canonicalize(node_modules)?, home.join("node_modules"))
}
