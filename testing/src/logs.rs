//! What the process has logged: every line of every crate, at trace level, as JSON.
//!
//! Tests of one binary run at once and share the log, so each looks for names that only it uses.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static START: Once = Once::new();

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

/// Starts to remember, once a process. Our own crates at trace level; libraries warn only, as in the
/// shipped binaries.
pub fn remember() {
    START.call_once(|| {
        let own = ["core", "runtime", "auth", "agent", "local", "webhook"];
        let filter = own.iter().fold("warn".to_owned(), |all, one| format!("{all},pod_identity_{one}=trace"));
        let logs = tracing_subscriber::fmt().json().flatten_event(true).with_writer(|| Lines);
        let _ = logs.with_env_filter(EnvFilter::new(filter)).try_init();
    });
}

/// The lines so far that hold all of these texts.
pub fn lines_with(texts: &[&str]) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| texts.iter().all(|text| line.contains(text))).cloned().collect()
}
