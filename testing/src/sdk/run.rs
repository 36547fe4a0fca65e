//! Programs in an environment with only the variables of the test.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The output of a program and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code. `None` if a signal ended the program.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Returns whether the exit code is 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Parses standard output as JSON.
    ///
    /// # Panics
    ///
    /// If standard output is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}) in {self:#?}"))
    }
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    /// The program's `HOME`, which is removed after its end.
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

    /// Waits for the end of the program.
    ///
    /// # Panics
    ///
    /// If the output cannot be read.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        let Some(child) = self.child.take() else {
            unreachable!("`finish` consumes self, and nothing else takes the child")
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

/// Creates an empty home directory.
#[track_caller]
pub(super) fn home() -> TempDir {
    TempDir::with_prefix("sdk-home-")
        .unwrap_or_else(|error| panic!("cannot create a temporary directory: {error}"))
}

/// Copies the scripts in `sources` into `home`, and links `node_modules` there.
pub(super) fn link_scripts(sources: &Path, node_modules: &Path, home: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sources)? {
        let entry = entry?;
        if entry.path().extension() == Some(OsStr::new("mjs")) {
            fs::copy(entry.path(), home.join(entry.file_name()))?;
        }
    }
    symlink(fs::canonicalize(node_modules)?, home.join("node_modules"))
}
