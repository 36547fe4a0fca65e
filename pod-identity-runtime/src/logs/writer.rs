//! Log lines on standard error, written by a thread.
//!
//! A request never waits for standard error. A line is dropped and counted if the queue is full or the line cannot be
//! written.

use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use rustix::io::Errno;
use tokio::sync::oneshot;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// Maximum number of lines that wait to be written.
const QUEUE: usize = 1024;
/// Part of the queue that only audit lines may use, so that a flood of other lines does not displace them.
const AUDIT_RESERVE: usize = QUEUE / 4;
/// Maximum length of a line in bytes. The rest is cut off.
const MAX_LINE: usize = 8 * 1024;
/// Minimum time between two lines about dropped lines.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Pause between two writes to a full non-blocking standard error, and maximum number of writes.
const RETRY: (Duration, u32) = (Duration::from_millis(5), 200);

/// Counters of this process's log lines.
#[derive(Debug, Default)]
struct LogMetrics {
    dropped: Family<DroppedLabels, Counter>,
    suppressed: Counter,
    dropped_total: AtomicU64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabels {
    kind: &'static str,
    reason: &'static str,
}

static METRICS: LazyLock<LogMetrics> = LazyLock::new(LogMetrics::default);

/// Registers `pod_identity_log_lines_dropped_total` and `pod_identity_log_lines_suppressed_total`.
pub fn register(registry: &mut Registry) {
    // Each counter starts at 0, so that its first increment is visible.
    for kind in ["audit", "other"] {
        for reason in ["write_failed", "queue_full"] {
            drop(METRICS.dropped.get_or_create(&DroppedLabels { kind, reason }));
        }
    }
    registry.register(
        "pod_identity_log_lines_dropped",
        "Log lines that could not be written, by kind (audit, other) and reason (write_failed, queue_full)",
        METRICS.dropped.clone(),
    );
    registry.register(
        "pod_identity_log_lines_suppressed",
        "Log lines suppressed because their peer caused too many with the same error code",
        METRICS.suppressed.clone(),
    );
}

pub(super) fn count_suppressed() {
    METRICS.suppressed.inc();
}

fn count_dropped(is_audit: bool, reason: &'static str) {
    let kind = if is_audit { "audit" } else { "other" };
    METRICS.dropped.get_or_create(&DroppedLabels { kind, reason }).inc();
    METRICS.dropped_total.fetch_add(1, Ordering::Relaxed);
}

struct Line {
    text: Vec<u8>,
    is_audit: bool,
    /// Receives whether the line was written.
    written: Option<oneshot::Sender<bool>>,
}

/// The queue of lines, for `tracing_subscriber`. Clones share the queue.
#[derive(Debug, Clone)]
pub(super) struct LogWriter {
    sender: SyncSender<Line>,
    depth: Arc<AtomicUsize>,
    audit_targets: Arc<[String]>,
}

impl LogWriter {
    /// Starts the thread that writes to standard error. Lines of `audit_targets` are audit lines.
    pub(super) fn start(audit_targets: &[&str]) -> std::io::Result<Self> {
        let (sender, lines) = sync_channel(QUEUE);
        let depth = Arc::new(AtomicUsize::new(0));
        let remaining = depth.clone();
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || write_lines(&lines, &remaining, &mut StandardError))?;
        Ok(Self {
            sender,
            depth,
            audit_targets: audit_targets.iter().map(|&target| target.to_owned()).collect(),
        })
    }

    /// Waits until the queue is empty, for at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let steps = limit.as_millis() / RETRY.0.as_millis();
        for _ in 0..steps {
            if self.depth.load(Ordering::Acquire) == 0 {
                return;
            }
            std::thread::sleep(RETRY.0);
        }
    }

    fn send(&self, text: Vec<u8>, is_audit: bool) {
        let written = if is_audit { expect_acknowledgement() } else { None };
        let limit = if is_audit { QUEUE } else { QUEUE - AUDIT_RESERVE };
        if self.depth.fetch_add(1, Ordering::AcqRel) >= limit
            || self.sender.try_send(Line { text, is_audit, written }).is_err()
        {
            self.depth.fetch_sub(1, Ordering::AcqRel);
            count_dropped(is_audit, "queue_full");
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter { queue: self, is_audit: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        let is_audit = self.audit_targets.iter().any(|target| target == metadata.target());
        LineWriter { queue: self, is_audit }
    }
}

/// Writes one event. It never fails, because `tracing_subscriber` cannot report that.
#[derive(Debug)]
pub(super) struct LineWriter<'a> {
    queue: &'a LogWriter,
    is_audit: bool,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        self.queue.send(one_line(event), self.is_audit);
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns the event as exactly one line of at most [`MAX_LINE`] bytes, so that text from an upstream or a peer cannot
/// look like a separate line.
fn one_line(event: &[u8]) -> Vec<u8> {
    let event = event.strip_suffix(b"\n").unwrap_or(event);
    let mut line = Vec::with_capacity(event.len().min(MAX_LINE) + 1);
    for &byte in event {
        if line.len() >= MAX_LINE {
            line.extend_from_slice("…".as_bytes());
            break;
        }
        match byte {
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            byte => line.push(byte),
        }
    }
    line.push(b'\n');
    line
}

/// Standard error without the lock of [`std::io::stderr`], which a blocked write would hold.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        for _ in 0..RETRY.1 {
            match rustix::io::write(rustix::stdio::stderr(), buffer) {
                // Another process has made the pipe non-blocking.
                Err(Errno::AGAIN) => std::thread::sleep(RETRY.0),
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_lines(lines: &Receiver<Line>, depth: &AtomicUsize, output: &mut impl Write) {
    let mut reported = (0, None);
    let mut is_cut = false;
    while let Ok(line) = lines.recv() {
        let written = write_line(output, &line.text, &mut is_cut);
        if !written {
            count_dropped(line.is_audit, "write_failed");
        }
        depth.fetch_sub(1, Ordering::AcqRel);
        if let Some(waiting) = line.written {
            // The waiter may have timed out.
            let _ = waiting.send(written);
        }
        if written {
            report_dropped(&mut reported);
        }
    }
}

/// Writes a whole line. After a line that was cut off, it starts a new line.
fn write_line(output: &mut impl Write, text: &[u8], is_cut: &mut bool) -> bool {
    let mut write = |mut rest: &[u8]| {
        while !rest.is_empty() {
            match output.write(rest) {
                Ok(0) => return Err(rest.len()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(rest.len()),
            }
        }
        Ok(())
    };
    if *is_cut && write(b"\n").is_err() {
        return false;
    }
    *is_cut = false;
    match write(text) {
        Ok(()) => true,
        Err(left) => {
            *is_cut = left < text.len();
            false
        }
    }
}

/// Logs the number of lines dropped since the last report, once lines can be written again.
fn report_dropped(reported: &mut (u64, Option<std::time::Instant>)) {
    let dropped = METRICS.dropped_total.load(Ordering::Relaxed);
    let now = crate::clock::monotonic();
    if dropped > reported.0 && reported.1.is_none_or(|at| now.duration_since(at) >= REPORT_INTERVAL) {
        tracing::warn!(lines = dropped - reported.0, "log lines dropped");
        *reported = (dropped, Some(now));
    }
}

thread_local! {
    /// Audit lines of [`acknowledged`] from this thread.
    static SENT: RefCell<Option<Vec<oneshot::Receiver<bool>>>> = const { RefCell::new(None) };
}

fn expect_acknowledgement() -> Option<oneshot::Sender<bool>> {
    SENT.with_borrow_mut(|sent| {
        let sent = sent.as_mut()?;
        let (sender, receiver) = oneshot::channel();
        sent.push(receiver);
        Some(sender)
    })
}

/// The result of writing audit lines.
#[derive(Debug)]
pub struct Acknowledgement(Vec<oneshot::Receiver<bool>>);

/// Writes audit lines, and returns whether they were written. Lines of other targets do not count.
pub fn acknowledged(write: impl FnOnce()) -> Acknowledgement {
    let before = SENT.replace(Some(Vec::new()));
    write();
    Acknowledgement(SENT.replace(before).unwrap_or_default())
}

impl Acknowledgement {
    /// Waits until every line was written to standard error, for at most `limit`. Returns `false` if a line was
    /// dropped, the time is over, or there was no line because logging was not started with [`start`](super::start).
    pub async fn is_written(self, limit: Duration) -> bool {
        let all = async {
            let mut is_written = !self.0.is_empty();
            for line in self.0 {
                is_written &= line.await.unwrap_or(false);
            }
            is_written
        };
        tokio::time::timeout(limit, all).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer that accepts `room` bytes, then fails like a full disk until it is emptied.
    struct Disk {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            let taken = buffer.len().min(self.room);
            if taken == 0 {
                return Err(Errno::NOSPC.into());
            }
            self.text.extend_from_slice(&buffer[..taken]);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn starts_a_new_line_after_one_that_was_cut_off() {
        let mut disk = Disk { room: 9, text: Vec::new() };
        let mut is_cut = false;
        assert!(write_line(&mut disk, b"whole\n", &mut is_cut));
        assert!(!write_line(&mut disk, b"cut off\n", &mut is_cut));
        assert!(!write_line(&mut disk, b"lost\n", &mut is_cut));
        disk.room = 100;
        assert!(write_line(&mut disk, b"later\n", &mut is_cut));
        assert_eq!(String::from_utf8(disk.text).unwrap(), "whole\ncut\nlater\n");
    }

    #[test]
    fn keeps_an_event_on_one_line_of_bounded_length() {
        assert_eq!(one_line(b"said: a\r\nERROR b\n"), b"said: a\\r\\nERROR b\n");
        let long = one_line(&[b'x'; 3 * MAX_LINE]);
        assert!(long.len() <= MAX_LINE + 8 && long.ends_with("…\n".as_bytes()), "{}", long.len());
    }

    fn blocked() -> (LogWriter, Receiver<Line>) {
        let (sender, lines) = sync_channel(QUEUE);
        let audit_targets = Arc::from(["audit".to_owned()]);
        (LogWriter { sender, depth: Arc::default(), audit_targets }, lines)
    }

    #[test]
    fn drops_lines_without_blocking_and_reserves_room_for_audit_lines() {
        let (writer, lines) = blocked();
        for _ in 0..3 * QUEUE {
            writer.send(b"x\n".to_vec(), false);
        }
        writer.send(b"audit\n".to_vec(), true);
        drop(writer);
        let queued: Vec<Line> = lines.iter().collect();
        assert_eq!(queued.len(), QUEUE - AUDIT_RESERVE + 1);
        assert!(queued.last().unwrap().is_audit);
    }

    #[tokio::test]
    async fn acknowledges_only_audit_lines_that_were_written() {
        let (writer, lines) = blocked();
        let send = |text: &[u8]| acknowledged(|| writer.send(text.to_vec(), true));
        let (written, lost) = (send(b"written\n"), send(b"lost because it is longer\n"));
        let other = acknowledged(|| writer.send(b"other\n".to_vec(), false));
        drop(writer);
        write_lines(&lines, &AtomicUsize::new(3), &mut Disk { room: 10, text: Vec::new() });
        let limit = Duration::from_secs(5);
        assert!(written.is_written(limit).await);
        assert!(!lost.is_written(limit).await);
        assert!(!other.is_written(limit).await);
    }
}
