//! Reads that reviews share.
//!
//! A burst of pods of one account must not be as many reads, but a review may not be answered by a read that
//! began before it: what that one found may have changed before the pod was created. So for each key there
//! is one read under way and one that waits, and whoever comes joins the one that waits. It begins when the
//! one under way ends, or after [`PATIENCE`].
//!
//! Every pod can send reviews with any key. So each peer has a limit of reads (`reads/share.rs`), and at most
//! [`AT_ONCE`] run at once. A review beyond a limit gets no read.

mod share; // how many reads each peer may begin

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

use self::share::Shares;
use super::DEADLINE;
use super::complaints::Complaints;
use super::failure::ReadFailure;
use super::metrics::ReadMetrics;

/// How long a read waits for the one before it: a slow read must not be paid for twice.
const PATIENCE: Duration = Duration::from_millis(100);
/// Maximum number of concurrent reads of all keys: as many as the seats of a priority level with few shares.
const AT_ONCE: usize = 32;
/// Maximum time that a read waits until it may run: half of a review's deadline.
const QUEUE: Duration = Duration::from_millis(500);

/// What is read by a key.
pub(super) trait Source: Send + Sync + 'static {
    /// What tells two reads apart.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;
    /// What is found; many reviews get it.
    type Found: Clone + Send + Sync + 'static;

    /// Reads it as it is now.
    fn read(&self, key: &Self::Key) -> impl Future<Output = Result<Self::Found, ReadFailure>> + Send;
}

type Outcome<F> = Result<F, ReadFailure>;

/// The reads of a source.
pub(super) struct SharedReads<S: Source> {
    source: S,
    metrics: ReadMetrics,
    complaints: Complaints,
    flights: Mutex<HashMap<S::Key, Flights<S::Found>>>,
    shares: Shares,
    at_once: Semaphore,
}

/// The reads of one key. It is kept only while there are any.
struct Flights<F> {
    under_way: usize,
    waiting: Option<Waiting<F>>,
}

/// A read that has not begun.
struct Waiting<F> {
    outcome: watch::Receiver<Option<Outcome<F>>>,
    /// Says that it may begin; `None` once it was said.
    begin: Option<oneshot::Sender<()>>,
}

impl<S: Source> SharedReads<S> {
    pub(super) fn new(source: S, metrics: ReadMetrics) -> Arc<Self> {
        Arc::new(Self {
            source,
            metrics,
            complaints: Complaints::default(),
            flights: Mutex::default(),
            shares: Shares::default(),
            at_once: Semaphore::new(AT_ONCE),
        })
    }

    /// Returns the result of a read that begins after this call, if it ends by the deadline. The read counts against
    /// the limit of `peer`; `None` is a peer without limit.
    pub(super) async fn read(
        self: &Arc<Self>,
        key: S::Key,
        peer: Option<IpAddr>,
        deadline: Instant,
    ) -> Outcome<S::Found> {
        let mut outcome = self.join(key, peer)?;
        match timeout_at(deadline, outcome.wait_for(Option::is_some)).await {
            Err(_) => Err(ReadFailure::Deadline),
            // The sender is gone: its task was ended with the program, or broke off.
            Ok(Err(_)) => Err(ApiFailure::Answer("the read broke off".to_owned()).into()),
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(ReadFailure::Deadline)),
        }
    }

    /// Joins the read that has not begun, or makes one. Reads are tasks of their own: whoever hangs up ends none
    /// that others wait for.
    ///
    /// # Errors
    /// [`ReadFailure::Busy`] if the peer is at its limit. No read begins then.
    fn join(
        self: &Arc<Self>,
        key: S::Key,
        peer: Option<IpAddr>,
    ) -> Result<watch::Receiver<Option<Outcome<S::Found>>>, ReadFailure> {
        let mut flights = self.flights();
        if let Some(Flights { waiting: Some(waiting), .. }) = flights.get(&key) {
            return Ok(waiting.outcome.clone());
        }
        if !peer.is_none_or(|peer| self.shares.take(peer, Instant::now())) {
            self.metrics.read(Some(&ReadFailure::Busy), Duration::ZERO);
            return Err(ReadFailure::Busy);
        }
        let of_key = flights.entry(key.clone()).or_insert(Flights { under_way: 0, waiting: None });
        let (sender, outcome) = watch::channel(None);
        if of_key.under_way == 0 {
            of_key.under_way = 1;
            tokio::spawn(self.clone().run(key, sender));
        } else {
            let (begin, may_begin) = oneshot::channel();
            of_key.waiting = Some(Waiting { outcome: outcome.clone(), begin: Some(begin) });
            tokio::spawn(self.clone().wait(key, may_begin, sender));
        }
        Ok(outcome)
    }

    async fn wait(
        self: Arc<Self>,
        key: S::Key,
        may_begin: oneshot::Receiver<()>,
        sender: watch::Sender<Option<Outcome<S::Found>>>,
    ) {
        let _ = timeout(PATIENCE, may_begin).await;
        if let Some(of_key) = self.flights().get_mut(&key) {
            of_key.waiting = None; // from here on nobody joins it
            of_key.under_way += 1;
        }
        self.run(key, sender).await;
    }

    async fn run(self: Arc<Self>, key: S::Key, sender: watch::Sender<Option<Outcome<S::Found>>>) {
        let under_way = UnderWay { reads: &self, key: &key };
        let permit = timeout(QUEUE, self.at_once.acquire()).await;
        let began = Instant::now();
        let outcome = match permit {
            Err(_) => Err(ReadFailure::Busy),
            // No waiter has more time than this.
            Ok(_permit) => match timeout(DEADLINE, self.source.read(&key)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(ReadFailure::Deadline),
            },
        };
        let failure = outcome.as_ref().err();
        self.metrics.read(failure, began.elapsed());
        if let Some(failure) = failure.filter(|failure| self.complaints.is_due(failure, clock::monotonic())) {
            tracing::warn!(reason = failure.as_str(), "what was known before is the answer: {failure}");
        }
        drop(under_way); // before anybody who is answered comes with the next review
        sender.send_replace(Some(outcome));
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<S::Key, Flights<S::Found>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read under way: however it ends, the next one may begin, and nothing is left of the last one.
struct UnderWay<'a, S: Source> {
    reads: &'a SharedReads<S>,
    key: &'a S::Key,
}

impl<S: Source> Drop for UnderWay<'_, S> {
    fn drop(&mut self) {
        let mut flights = self.reads.flights();
        let Some(of_key) = flights.get_mut(self.key) else { return };
        of_key.under_way -= 1;
        match &mut of_key.waiting {
            Some(waiting) => drop(waiting.begin.take().map(|begin| begin.send(()))),
            None if of_key.under_way == 0 => drop(flights.remove(self.key)),
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
