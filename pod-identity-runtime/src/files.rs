//! Files that are read again when they change.

use std::fs::Metadata;
use std::path::PathBuf;
use std::time::Duration;

use crate::shutdown::Shutdown;

/// How often files are looked at. A look is a `stat` each.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Files as they were at a look. It is taken before they are first read: what changes between
/// the reading and the following is not missed then.
#[derive(Debug, Clone)]
pub struct Watched {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Fingerprint>>,
}

impl Watched {
    /// Looks at the files for the first time. One that is not there may come later.
    pub fn look(paths: Vec<PathBuf>) -> Self {
        let seen = fingerprints(&paths);
        Self { paths, seen }
    }

    /// Calls `changed` after any of the files changed, and waits for what it does, until the shutdown.
    ///
    /// By polling: a mounted ConfigMap or Secret changes by the swap of a symlink two levels up,
    /// which file notifications on the file itself do not see.
    pub async fn follow<F>(mut self, mut shutdown: Shutdown, mut changed: impl FnMut() -> F + Send)
    where
        F: Future<Output = ()> + Send,
    {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.asked() => return,
                _ = ticks.tick() => {}
            }
            let now = fingerprints(&self.paths);
            if now != self.seen {
                self.seen = now;
                changed().await;
            }
        }
    }
}

fn fingerprints(paths: &[PathBuf]) -> Vec<Option<Fingerprint>> {
    paths.iter().map(|path| std::fs::metadata(path).ok().map(|file| fingerprint(&file))).collect()
}

/// What tells two states of a file apart without reading it: device, inode, size, time of change.
type Fingerprint = (u64, u64, u64, i64, i64);

fn fingerprint(file: &Metadata) -> Fingerprint {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec())
}
