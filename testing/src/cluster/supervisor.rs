//! The shell script that runs the programs of a cluster. It stops them when its standard input is closed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::install::Unavailable;

/// A running script. It ends when this is dropped, or when the process ends.
#[derive(Debug)]
pub(crate) struct Supervisor {
    script: Child,
    pipes: Mutex<Option<Pipes>>,
}

#[derive(Debug)]
struct Pipes {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Supervisor {
    /// Starts a script, and returns it with its first line.
    pub(crate) fn start(command: &mut Command) -> Result<(Self, String), Unavailable> {
        let mut script = command
            .process_group(0) // Ctrl-C must not end it before the tests
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Unavailable::because(format!("unshare cannot be started: {error}")))?;
        let pipes = script.stdin.take().zip(script.stdout.take());
        let pipes = pipes.map(|(stdin, stdout)| Pipes { stdin, stdout: BufReader::new(stdout) });
        let supervisor = Self { script, pipes: Mutex::new(pipes) };
        let line = supervisor.with(Pipes::line);
        Ok((supervisor, line))
    }

    /// Returns the script's process id.
    pub(crate) fn id(&self) -> u32 {
        self.script.id()
    }

    /// Sends a command to the script, and waits for its end.
    ///
    /// # Panics
    /// If the script has ended.
    pub(crate) fn command(&self, command: &str) {
        let answer =
            self.with(|pipes| writeln!(pipes.stdin, "{command}").map(|()| pipes.line()).unwrap_or_default());
        assert_eq!(answer, "done", "the script did not run the command {command}, see standard error");
    }

    fn with(&self, action: impl FnOnce(&mut Pipes) -> String) -> String {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        pipes.as_mut().map(action).unwrap_or_default()
    }
}

impl Pipes {
    fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.stdout.read_line(&mut line); // empty, if the script has ended
        line.trim_end().to_owned()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        *self.pipes.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Err(error) = self.script.wait() {
            eprintln!("the programs of the cluster were not stopped: {error}");
        }
    }
}
