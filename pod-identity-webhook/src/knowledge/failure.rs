//! Why something was not read.

use std::path::PathBuf;

/// Why a source did not say, in time, what it says now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailure {
    /// A file has changed, and what it holds now cannot be used.
    #[error("{}: {reason}. What it held before stays in use; mend the file", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file has changed, and is still being read.
    #[error("{} has changed and could not be read in time; the next review may find it read", .path.display())]
    FileSlow {
        /// The file.
        path: PathBuf,
    },
}

impl ReadFailure {
    /// The failure as a metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::FileSlow { .. } => "file_slow",
        }
    }
}
