//! Files that are read again when they change.

use std::fs::Metadata;
use std::path::PathBuf;
use std::time::Duration;

use crate::shutdown::Shutdown;

/// How often files are looked at. A look is a `stat` each.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Calls `changed` after any of the files changed, until the shutdown.
///
/// By polling: a mounted ConfigMap or Secret changes by the swap of a symlink two levels up, which
/// file notifications on the file itself do not see.
pub async fn watch(paths: Vec<PathBuf>, mut shutdown: Shutdown, mut changed: impl FnMut() + Send) {
    let look =
        || paths.iter().map(|path| std::fs::metadata(path).ok().map(|file| fingerprint(&file))).collect();
    let mut seen: Vec<Option<Fingerprint>> = look();
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.asked() => return,
            _ = ticks.tick() => {}
        }
        let now = look();
        if now != seen {
            seen = now;
            changed();
        }
    }
}

/// What tells two states of a file apart without reading it: device, inode, size, time of change.
type Fingerprint = (u64, u64, u64, i64, i64);

fn fingerprint(file: &Metadata) -> Fingerprint {
    use std::os::unix::fs::MetadataExt;
    (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec())
}
