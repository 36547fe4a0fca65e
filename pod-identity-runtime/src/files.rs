//! Files that are read again when they change.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::MissedTickBehavior;

use crate::shutdown::Shutdown;

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

    /// The same files, whose readings are counted under that name.
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
            let now = fingerprints(&self.paths);
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
        use std::os::unix::fs::MetadataExt;
        let state =
            |file: std::fs::Metadata| (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec());
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
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_file_is_young_for_a_while_after_its_change() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        let (seen, metadata) = (Fingerprint::of(file.path()), file.path().metadata().unwrap());
        let seconds = Duration::from_secs(metadata.ctime().unsigned_abs());
        let nanoseconds = Duration::from_nanos(metadata.ctime_nsec().unsigned_abs());
        let changed = SystemTime::UNIX_EPOCH + seconds + nanoseconds;
        let age = Duration::from_millis(100);
        for (later, young) in [(0, true), (99, true), (100, false), (10_000, false)] {
            assert_eq!(
                seen.is_younger_than(age, changed + Duration::from_millis(later)),
                young,
                "{later} ms"
            );
        }
        assert!(!seen.is_younger_than(age, changed - Duration::from_millis(1)), "by a clock that is behind");
        let nothing = Fingerprint::of(&file.path().join("none"));
        assert!(!nothing.is_younger_than(age, changed));
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_without_a_change_and_what_succeeded_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "old").unwrap();
        let watched = Watched::look(vec![file.clone()]);
        std::fs::write(&file, "newer").unwrap();
        let (start, readings) = (Instant::now(), Mutex::new(Vec::new()));
        let read = || async {
            let mut readings = readings.lock().unwrap();
            readings.push(start.elapsed().as_secs());
            // The third succeeds, and the fourth, of another change, fails.
            [3, 5].contains(&readings.len())
        };
        let following = watched.follow(Shutdown::never(), read);
        let changing = async {
            tokio::time::sleep_until(start + Duration::from_millis(200_500)).await;
            assert_eq!(*readings.lock().unwrap(), [0, 30, 60]);
            std::fs::write(&file, "newest").unwrap();
            tokio::time::sleep_until(start + Duration::from_millis(400_500)).await;
        };
        tokio::select! {
            () = following => unreachable!("nobody asked for the end"),
            () = changing => {}
        }
        assert_eq!(*readings.lock().unwrap(), [0, 30, 60, 201, 231]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_not_kept_waiting_by_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let watched = Watched::look(vec![file.clone()]);
        std::fs::write(&file, "broken").unwrap();
        let (start, readings) = (Instant::now(), Mutex::new(Vec::new()));
        let read = || async {
            let text = std::fs::read_to_string(&file).unwrap();
            readings.lock().unwrap().push((start.elapsed().as_secs(), text.clone()));
            text == "good"
        };
        let following = watched.follow(Shutdown::never(), read);
        let mending = async {
            tokio::time::sleep_until(start + Duration::from_millis(4_500)).await;
            std::fs::write(&file, "good").unwrap();
            tokio::time::sleep_until(start + Duration::from_millis(100_500)).await;
        };
        tokio::select! {
            () = following => unreachable!("nobody asked for the end"),
            () = mending => {}
        }
        let expected = [(0, "broken".to_owned()), (5, "good".to_owned())];
        assert_eq!(*readings.lock().unwrap(), expected);
    }
}
