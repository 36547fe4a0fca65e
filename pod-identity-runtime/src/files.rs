//! Files of operators: reading within limits, and reading again after changes.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::MissedTickBehavior;
use zeroize::Zeroizing;

use crate::shutdown::Shutdown;

/// Maximum size of a token file in bytes: a token of 12 KiB and white space.
pub const MAX_TOKEN: usize = 16 * 1024;
/// Maximum size of a file of certificates or keys in bytes: several times the size of the bundle of all public
/// authorities.
pub const MAX_PEM: usize = 1024 * 1024;

/// Error of reading a file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system cannot read the file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is a directory, a pipe, a socket or a device.
    #[error("the file is a {0}, want a regular file")]
    NotRegular(FileKind),
    /// The file is larger than its content can be.
    #[error("the file is too large, want at most {0} bytes")]
    TooLarge(usize),
    /// The file changed during the reading, so that a part may be old.
    #[error("the file changed while it was read: write a new file beside it and rename the new file")]
    Changed,
    /// The file is not UTF-8.
    #[error("the file is not UTF-8 text")]
    NotText,
}

/// A type of file that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::Device => "device",
        })
    }
}

/// Reads a regular file of at most `limit` bytes. It follows links. It blocks until the file system responds: serving
/// tasks call [`read_in_background`].
///
/// It never waits for a writer. Other types of files are rejected before the file is opened, and again after that,
/// because another file may have taken its name.
///
/// # Errors
/// [`ReadError`], without the path. A file whose size or modification time differs after the reading is
/// [`ReadError::Changed`]. To replace a file, write another one and rename it.
pub fn read_regular(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    check_kind(&std::fs::metadata(path)?)?;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    read_opened(OpenOptions::new().read(true).custom_flags(flags).open(path)?, limit)
}

fn read_opened(file: File, limit: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let before = file.metadata()?;
    check_kind(&before)?;
    let size = usize::try_from(before.size()).unwrap_or(usize::MAX);
    if size > limit {
        return Err(ReadError::TooLarge(limit));
    }
    // The full capacity at once, because a buffer that grows leaves copies of a secret behind.
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    (&file).take(most).read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(ReadError::TooLarge(limit));
    }
    let after = file.metadata()?;
    let state = |file: &Metadata| (file.size(), file.mtime(), file.mtime_nsec());
    if state(&before) != state(&after) {
        return Err(ReadError::Changed);
    }
    Ok(content)
}

fn check_kind(file: &Metadata) -> Result<(), ReadError> {
    let kind = file.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(ReadError::NotRegular(match () {
        () if kind.is_dir() => FileKind::Directory,
        () if kind.is_fifo() => FileKind::Fifo,
        () if kind.is_socket() => FileKind::Socket,
        () => FileKind::Device,
    }))
}

/// Reads a file as UTF-8 text, like [`read_regular`].
///
/// # Errors
/// [`ReadError`], as for [`read_regular`], or if the content is not UTF-8.
pub fn read_text(path: &Path, limit: usize) -> Result<Zeroizing<String>, ReadError> {
    let mut content = read_regular(path, limit)?;
    let text = String::from_utf8(std::mem::take(&mut *content));
    text.map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        ReadError::NotText
    })
}

/// Reads a file as text on a thread for blocking work, so that a file system that hangs does not block serving tasks.
///
/// # Errors
/// [`ReadError`], as for [`read_text`].
pub async fn read_in_background(path: &Path, limit: usize) -> Result<Zeroizing<String>, ReadError> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_text(&path, limit)).await;
    read.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

/// Time between two checks of files for changes. A check is one `stat` for each file.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Number of checks until files that could not be used are read again without a change: half a minute. A file that
/// they refer to may exist by then.
const CHECKS_UNTIL_RETRY: u32 = 30;

/// Metrics of followed files: the number of reads, and whether the content is outdated. Clones share the metrics.
#[derive(Debug, Clone, Default)]
pub struct FileMetrics {
    reads: Family<FileRead, Counter>,
    stale: Family<FileLabel, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileRead {
    file: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabel {
    file: &'static str,
}

impl FileMetrics {
    /// Registers `pod_identity_file_reads_total` and `pod_identity_file_stale`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "pod_identity_file_reads",
            "Reads of a followed file after a change, by result",
            metrics.reads.clone(),
        );
        registry.register(
            "pod_identity_file_stale",
            "1 if a followed file cannot be used and its earlier content stays in use",
            metrics.stale.clone(),
        );
        metrics
    }

    fn count(&self, file: &'static str, read: bool) {
        let result = if read { "ok" } else { "failed" };
        self.reads.get_or_create(&FileRead { file, result }).inc();
        self.stale.get_or_create(&FileLabel { file }).set(i64::from(!read));
    }
}

/// The state of files at a check. Check before the first reading, so that a change between the reading and
/// [`follow`](Self::follow) is not missed.
#[derive(Debug, Clone)]
pub struct Watched {
    paths: Vec<PathBuf>,
    seen: Vec<Fingerprint>,
    metrics: Option<(FileMetrics, &'static str)>,
}

impl Watched {
    /// Checks the files for the first time. A file that does not exist may be created later.
    pub fn look(paths: Vec<PathBuf>) -> Self {
        let seen = fingerprints(&paths);
        Self { paths, seen, metrics: None }
    }

    /// Counts the reads of these files with that name.
    #[must_use]
    pub fn counted(self, metrics: &FileMetrics, file: &'static str) -> Self {
        metrics.stale.get_or_create(&FileLabel { file }).set(0);
        Self { metrics: Some((metrics.clone(), file)), ..self }
    }

    /// Calls `changed` after a change of any of the files, and waits for it, until the shutdown. If it returns false,
    /// it is called again every half a minute until it succeeds. Otherwise a removed association could stay in use
    /// because a file that another entry refers to did not exist yet.
    ///
    /// It polls, because a mounted ConfigMap or Secret changes by a symlink two directories above, which notifications
    /// on the file itself do not report.
    pub async fn follow<F>(mut self, mut shutdown: Shutdown, mut changed: impl FnMut() -> F + Send)
    where
        F: Future<Output = bool> + Send,
    {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        // A reading may take longer than a second. Missed checks are skipped.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Number of checks until a failed reading is repeated, or `None` if it succeeded.
        let mut retry: Option<u32> = None;
        loop {
            tokio::select! {
                () = shutdown.asked() => return,
                _ = ticks.tick() => {}
            }
            let paths = self.paths.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || fingerprints(&paths)).await else { continue };
            retry = retry.map(|looks| looks.saturating_sub(1));
            if now != self.seen || retry == Some(0) {
                self.seen = now;
                let read = changed().await;
                if let Some((metrics, file)) = &self.metrics {
                    metrics.count(file, read);
                }
                retry = if read { None } else { Some(CHECKS_UNTIL_RETRY) };
            }
        }
    }
}

fn fingerprints(paths: &[PathBuf]) -> Vec<Fingerprint> {
    paths.iter().map(|path| Fingerprint::of(path)).collect()
}

/// The state of a file without its content: device, inode, size and change time, or that it does not exist. Links are
/// followed, so a changed link is a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Option<(u64, u64, u64, i64, i64)>);

impl Fingerprint {
    /// Checks the file with a `stat`.
    pub fn of(path: &Path) -> Self {
        let state = |file: Metadata| (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec());
        Self(std::fs::metadata(path).ok().map(state))
    }

    /// Returns whether the file changed within `age` before `now`. The fingerprint of such a file may equal that of
    /// its next state, because file systems store the change time in steps of some milliseconds. A change time in the
    /// future, from another machine's clock, does not count.
    pub fn is_younger_than(&self, age: Duration, now: SystemTime) -> bool {
        let Some((.., seconds, nanoseconds)) = self.0 else { return false };
        let changed = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i128::try_from(since_1970.as_nanos()).unwrap_or(i128::MAX);
        i128::try_from(age.as_nanos()).is_ok_and(|age| (0..age).contains(&(now - changed)))
    }
}

#[cfg(test)]
mod tests;
