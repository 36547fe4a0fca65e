//! The captured log lines of the process, as JSON.
//!
//! Tests of one binary run concurrently and share the log. Each test must therefore search for names that no other test
//! uses.

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

/// Starts capturing log lines, once per process. The level is trace for this workspace's crates, and warn for libraries as
/// in the shipped binaries.
pub fn capture() {
    START.call_once(|| {
        let own = ["core", "runtime", "auth", "agent", "local", "webhook"];
        let filter =
            own.iter().fold("warn".to_owned(), |all, name| format!("{all},pod_identity_{name}=trace"));
        let logs = tracing_subscriber::fmt().json().flatten_event(true).with_writer(|| Lines);
        let _ = logs.with_env_filter(EnvFilter::new(filter)).try_init();
    });
}

/// Returns the captured lines that contain all of these texts.
pub fn lines_with(texts: &[&str]) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|line| texts.iter().all(|text| line.contains(text))).cloned().collect()
}
