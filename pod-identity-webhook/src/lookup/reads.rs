//! Reads that reviews share.
//!
//! Many pods of one service account cause few reads. But a review must not get the result of a read that began before the
//! review arrived: the object may have changed before the pod was created. So each key has one running read and one
//! pending read, and new reviews join the pending read. It begins when the running read ends, or after [`PENDING`].
//!
//! Every pod of the cluster can send reviews with any key. So each peer has a limit of reads (`reads/limit.rs`), and at
//! most [`MAX_RUNNING`] reads run at once. A review beyond a limit gets no read.

mod limit; // the limit of each peer

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pod_identity_runtime::clock;
use pod_identity_runtime::kubernetes::ApiFailure;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use self::limit::ReadLimits;
use super::failure::{DEADLINE, ReadFailure};
use super::metrics::ObjectReadMetrics;
use crate::repeat_limiter::RepeatLimiter;

/// Maximum time that a pending read waits for the running one. Waiting longer would pass on the delay of a slow read.
const PENDING: Duration = Duration::from_millis(100);
/// Maximum number of concurrent reads of all keys: about the concurrency of a priority level with few shares
/// (Kubernetes, *API Priority and Fairness*).
const MAX_RUNNING: usize = 32;
/// Maximum time that a read waits for its turn: half of a review's deadline.
const QUEUE: Duration = Duration::from_millis(500);

/// Reads objects by key.
pub(super) trait Source: Send + Sync + 'static {
    /// The object's key.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;
    /// The result of a read, which reviews share.
    type Found: Clone + Send + Sync + 'static;

    /// Reads the current object.
    fn read(&self, key: &Self::Key) -> impl Future<Output = Result<Self::Found, ReadFailure>> + Send;
}

type ReadResult<F> = Result<F, ReadFailure>;

/// Shared reads of a source.
pub(super) struct SharedReads<S: Source> {
    source: S,
    metrics: ObjectReadMetrics,
    /// Limits log lines by kind of failure.
    log_limiter: RepeatLimiter<&'static str>,
    flights: Mutex<HashMap<S::Key, Flights<S::Found>>>,
    limits: ReadLimits,
    running: Semaphore,
}

/// The reads of one key, kept while there are any.
struct Flights<F> {
    running: usize,
    pending: Option<Pending<F>>,
}

/// A read that has not begun.
struct Pending<F> {
    result: watch::Receiver<Option<ReadResult<F>>>,
    /// Begins the read; `None` once it was used.
    begin: Option<oneshot::Sender<()>>,
}

impl<S: Source> SharedReads<S> {
    pub(super) fn new(source: S, metrics: ObjectReadMetrics) -> Arc<Self> {
        Arc::new(Self {
            source,
            metrics,
            log_limiter: RepeatLimiter::default(),
            flights: Mutex::default(),
            limits: ReadLimits::default(),
            running: Semaphore::new(MAX_RUNNING),
        })
    }

    /// Returns the result of a read that begins after this call, if it ends by the deadline. The read counts against
    /// the limit of `peer`; `None` is a peer without limit.
    pub(super) async fn read(
        self: &Arc<Self>,
        key: S::Key,
        peer: Option<IpAddr>,
        deadline: Instant,
    ) -> ReadResult<S::Found> {
        let mut result = self.join(key, peer)?;
        match timeout_at(deadline, result.wait_for(Option::is_some)).await {
            Err(_) => Err(ReadFailure::Deadline),
            // The task of the read panicked, or ended with the program.
            Ok(Err(_)) => Err(ApiFailure::Answer("the read was interrupted".to_owned()).into()),
            Ok(Ok(result)) => result.clone().unwrap_or(Err(ReadFailure::Deadline)),
        }
    }

    /// Joins the pending read, or makes a new one. Each read is a task of its own, so a review that is cancelled ends no
    /// read that others wait for.
    ///
    /// # Errors
    /// [`ReadFailure::Busy`] if the peer is at its limit. No read begins then.
    fn join(
        self: &Arc<Self>,
        key: S::Key,
        peer: Option<IpAddr>,
    ) -> Result<watch::Receiver<Option<ReadResult<S::Found>>>, ReadFailure> {
        let mut flights = self.flights();
        if let Some(Flights { pending: Some(pending), .. }) = flights.get(&key) {
            return Ok(pending.result.clone());
        }
        if !peer.is_none_or(|peer| self.limits.take(peer, Instant::now())) {
            self.metrics.count(Some(&ReadFailure::Busy), Duration::ZERO);
            return Err(ReadFailure::Busy);
        }
        let of_key = flights.entry(key.clone()).or_insert(Flights { running: 0, pending: None });
        let (sender, result) = watch::channel(None);
        if of_key.running == 0 {
            of_key.running = 1;
            tokio::spawn(self.clone().run(key, sender));
        } else {
            let (begin, may_begin) = oneshot::channel();
            of_key.pending = Some(Pending { result: result.clone(), begin: Some(begin) });
            tokio::spawn(self.clone().wait(key, may_begin, sender));
        }
        Ok(result)
    }

    async fn wait(
        self: Arc<Self>,
        key: S::Key,
        may_begin: oneshot::Receiver<()>,
        sender: watch::Sender<Option<ReadResult<S::Found>>>,
    ) {
        let _ = timeout(PENDING, may_begin).await;
        if let Some(of_key) = self.flights().get_mut(&key) {
            of_key.pending = None; // later reviews make the next one
            of_key.running += 1;
        }
        self.run(key, sender).await;
    }

    async fn run(self: Arc<Self>, key: S::Key, sender: watch::Sender<Option<ReadResult<S::Found>>>) {
        let running = Running { reads: &self, key: &key };
        let permit = timeout(QUEUE, self.running.acquire()).await;
        let began = Instant::now();
        let result = match permit {
            Err(_) => Err(ReadFailure::Busy),
            // No review waits longer than this.
            Ok(_permit) => match timeout(DEADLINE, self.source.read(&key)).await {
                Ok(result) => result,
                Err(_) => Err(ReadFailure::Deadline),
            },
        };
        let failure = result.as_ref().err();
        self.metrics.count(failure, began.elapsed());
        if let Some(failure) = failure
            && let Some(suppressed) = self.log_limiter.allow(failure.as_str(), clock::monotonic())
        {
            tracing::warn!(
                reason = failure.as_str(),
                suppressed,
                "read failed, earlier data is used: {failure}"
            );
        }
        drop(running); // before a client that gets a response can send its next review
        sender.send_replace(Some(result));
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<S::Key, Flights<S::Found>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running read. Its end, a panic included, begins the pending read and removes the last entry of the key.
struct Running<'a, S: Source> {
    reads: &'a SharedReads<S>,
    key: &'a S::Key,
}

impl<S: Source> Drop for Running<'_, S> {
    fn drop(&mut self) {
        let mut flights = self.reads.flights();
        let Some(of_key) = flights.get_mut(self.key) else { return };
        of_key.running -= 1;
        match &mut of_key.pending {
            Some(pending) => drop(pending.begin.take().map(|begin| begin.send(()))),
            None if of_key.running == 0 => drop(flights.remove(self.key)),
            None => {}
        }
    }
}

impl<S: Source> fmt::Debug for SharedReads<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReads").field("keys", &self.flights().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
