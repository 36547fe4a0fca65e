//! Files that operators name: read with a bound, and read again when they change.

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
/// Maximum size of a file of certificates or keys in bytes: several times the bundle of all public authorities.
pub const MAX_PEM: usize = 1024 * 1024;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system could not read it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is a directory, a pipe, a socket or a device.
    #[error("it is a {0}, want a regular file")]
    NotRegular(FileKind),
    /// It is larger than its kind of content can be.
    #[error("it has more than {0} bytes, the most that is read")]
    TooLarge(usize),
    /// Its content changed while it was read, so that a part may be old.
    #[error("it changed while it was read: write a new file beside it and rename that one to its name")]
    Changed,
    /// It is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotText,
}

/// A kind of file that is not read.
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

/// Reads a regular file of at most `limit` bytes; links are followed. It blocks for as long as the file system does:
/// tasks that serve call [`read_in_background`].
///
/// It never waits for a writer and always ends. Other kinds of file are refused before they are opened, and after the
/// opening too, in case another file took the name.
///
/// # Errors
/// [`ReadError`], without the path. A file whose size or modification time differs after the reading is
/// [`ReadError::Changed`]. Replace a file by writing another one and renaming it.
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
    // Room for all of it: a buffer that grows would leave copies of a secret behind.
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

/// Reads a file like [`read_regular`], as text.
///
/// # Errors
/// [`ReadError`], as [`read_regular`], and where the content is not UTF-8.
pub fn read_text(path: &Path, limit: usize) -> Result<Zeroizing<String>, ReadError> {
    let mut content = read_regular(path, limit)?;
    let text = String::from_utf8(std::mem::take(&mut *content));
    text.map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        ReadError::NotText
    })
}

/// [`read_text`] on a thread for blocking work: a file system that hangs does not block serving tasks.
///
/// # Errors
/// [`ReadError`], as [`read_text`].
pub async fn read_in_background(path: &Path, limit: usize) -> Result<Zeroizing<String>, ReadError> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_text(&path, limit)).await;
    read.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

/// How often files are looked at. A look is a `stat` each.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How many looks after a failed reading the files are read again, changed or not: half a minute. What
/// they name may have come since, and nobody looks at that.
const LOOKS_UNTIL_RETRY: u32 = 30;

/// Metrics of followed files: how often each was read, and whether its content is out of date. Clones count together.
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
            "1 where a followed file cannot be used, and its earlier content is in use",
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

/// Files as they were at a look. It is taken before they are first read: what changes between
/// the reading and the following is not missed then.
#[derive(Debug, Clone)]
pub struct Watched {
    paths: Vec<PathBuf>,
    seen: Vec<Fingerprint>,
    metrics: Option<(FileMetrics, &'static str)>,
}

impl Watched {
    /// Looks at the files for the first time. One that is not there may come later.
    pub fn look(paths: Vec<PathBuf>) -> Self {
        let seen = fingerprints(&paths);
        Self { paths, seen, metrics: None }
    }

    /// Counts the reads of these files under that name.
    #[must_use]
    pub fn counted(self, metrics: &FileMetrics, file: &'static str) -> Self {
        metrics.stale.get_or_create(&FileLabel { file }).set(0);
        Self { metrics: Some((metrics.clone(), file)), ..self }
    }

    /// Calls `changed` after any of the files changed, and waits for what it does, until the shutdown.
    /// Where that says it failed, it is called again every half a minute until it succeeds: a removed
    /// association must not stay in force because a file that another entry names was not there yet.
    ///
    /// By polling: a mounted ConfigMap or Secret changes by the swap of a symlink two levels up,
    /// which file notifications on the file itself do not see.
    pub async fn follow<F>(mut self, mut shutdown: Shutdown, mut changed: impl FnMut() -> F + Send)
    where
        F: Future<Output = bool> + Send,
    {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        // A reading may take longer than a second; the looks that it missed are not made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Looks left until a failed reading is repeated; `None` where it did not fail.
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
                retry = if read { None } else { Some(LOOKS_UNTIL_RETRY) };
            }
        }
    }
}

fn fingerprints(paths: &[PathBuf]) -> Vec<Fingerprint> {
    paths.iter().map(|path| Fingerprint::of(path)).collect()
}

/// What tells two states of a file apart without reading it: device, inode, size, time of change; or that
/// there is none. Links are followed, so that the swap of one is a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Option<(u64, u64, u64, i64, i64)>);

impl Fingerprint {
    /// Looks at the file. It is a `stat`.
    pub fn of(path: &Path) -> Self {
        let state = |file: Metadata| (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec());
        Self(std::fs::metadata(path).ok().map(state))
    }

    /// Whether the file changed within this time before `now`. Of such a file a fingerprint may not tell the next
    /// state: file systems count the time of a change in steps of some milliseconds. A time that is to come, by
    /// another machine's clock, is no such.
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
