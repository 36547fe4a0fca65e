//! The credential cell: credentials that are renewed ahead of their expiry, fetched once for all waiting requests, and
//! read without a lock.

mod cached;
mod fetch;
mod reader;
mod task;
#[cfg(test)]
mod tests;
mod throttle;

use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_runtime_api::client::identity::Identity;
use pod_identity_core::cache::{Serving, SlotBegin, SlotLeader, Waited, Waiter};
use pod_identity_core::time::Now;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::error::Error;
use crate::timer::Timer;

use cached::{CachedCredentials, Need};
use fetch::{Flight, Upstream};
use reader::{FetchError, MARGIN, Reader};
use task::Task;
use throttle::{INTERVAL, Throttle};

/// How often a request begins again after its fetch was dropped with its runtime.
const ATTEMPTS: usize = 3;
/// The longest sleep of the task that renews: timers stand still while a machine sleeps, so it reads the clock at least
/// this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The way in which credentials are renewed ahead of their expiry.
///
/// ```
/// use pod_identity_provider::{PodIdentityCredentialsProvider, Refresh};
///
/// let provider = PodIdentityCredentialsProvider::builder().refresh(Refresh::OnRequest).build();
/// # drop(provider);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Refresh {
    /// A background task renews them, with or without requests. Only the first request waits. The task runs on the tokio
    /// runtime of the first fetch and ends with the provider. If that runtime ends earlier, or nobody drives it, the next
    /// request that finds the credentials due renews them on its own runtime.
    #[default]
    Background,
    /// The first request that finds the credentials due starts their renewal. Requests do not wait while there are valid
    /// credentials. For programs that are short, or are frozen between requests. Without a tokio runtime that first request
    /// waits for its own fetch.
    OnRequest,
}

/// The credentials of one provider. It lives as long as the provider and its identity caches, and its tasks end with it.
#[derive(Debug)]
pub(crate) struct CredentialCell {
    reader: Arc<Reader>,
    upstream: Arc<Upstream>,
    timer: Timer,
    refresh: Refresh,
    /// The longest run of a fetch.
    limit: Duration,
    /// Limits the requests that look after a renewal.
    throttle: Throttle,
    flight: Flight,
    /// The last fetch that a request began.
    fetching: Task,
    /// The task that renews.
    renewing: Task,
}

impl CredentialCell {
    /// A cell that is filled from `provider`. Its credentials are due when `ahead` of their life is left, or half of a life
    /// shorter than twice that. The provider's calls end by themselves within `deadline`.
    pub(crate) fn new(
        provider: impl ProvideCredentials + 'static,
        clock: Clock,
        timer: Timer,
        refresh: Refresh,
        ahead: Duration,
        deadline: Duration,
    ) -> Arc<Self> {
        let reader = Arc::new(Reader::new(clock));
        Arc::new(Self {
            upstream: Arc::new(Upstream::new(provider, reader.clone(), ahead)),
            reader,
            timer,
            refresh,
            limit: deadline.saturating_add(INTERVAL),
            throttle: Throttle::default(),
            flight: Flight::default(),
            fetching: Task::default(),
            renewing: Task::default(),
        })
    }

    /// Returns the credentials, and fetches them if there are none.
    pub(crate) async fn credentials(self: &Arc<Self>) -> Result<Credentials, Error> {
        for _ in 0..ATTEMPTS {
            let now = self.reader.now();
            let (margin, patience) = match self.reader.credentials(now) {
                None => (MARGIN, self.limit),
                Some((credentials, Need::Nothing)) => return Ok(credentials),
                Some((credentials, Need::Renewal)) => {
                    if !self.throttle.allows(now) {
                        return Ok(credentials);
                    }
                    self.start_renewal(now).await;
                    // Read again: they may have expired meanwhile.
                    match self.valid_credentials() {
                        Some(credentials) => return Ok(credentials),
                        None => continue,
                    }
                }
                // Half of the rest is for the wait, the other half for the request itself.
                Some((_, Need::Fetch { left })) => (left, left / 2),
            };
            match self.fetched(now, margin, patience).await {
                Some(Ok(credentials)) => return Ok(credentials),
                Some(Err(error)) => return self.valid_credentials().ok_or(error),
                None if margin > MARGIN => break,
                None => {}
            }
        }
        self.valid_credentials().ok_or_else(Error::dropped)
    }

    /// Returns the credentials, if there are valid ones.
    pub(crate) fn valid_credentials(&self) -> Option<Credentials> {
        self.reader.credentials(self.reader.now()).map(|(credentials, _)| credentials)
    }

    /// Returns the identity of credentials that are valid and not due for renewal.
    pub(crate) fn fresh_identity(&self) -> Option<Identity> {
        self.reader.fresh_identity()
    }

    /// Returns the result of a fetch that this request or another one began. `None` if the fetch was dropped, or takes
    /// longer than `patience`.
    async fn fetched(
        self: &Arc<Self>,
        now: Now,
        margin: Duration,
        patience: Duration,
    ) -> Option<Result<Credentials, Error>> {
        let waiter = match self.reader.slot().begin(None, now, Serving::until_end(margin)) {
            SlotBegin::Hit(entry) | SlotBegin::Stale(entry) => {
                return Some(Ok(entry.value().credentials().clone()));
            }
            SlotBegin::Refused(failure) => return Some(Err(failure.0.clone())),
            SlotBegin::Wait(_) if self.flight.abandon_overdue(self.limit, now) => return None,
            SlotBegin::Wait(waiter) => waiter,
            SlotBegin::Lead(leader, waiter) => {
                self.fetch_for_all(leader).await;
                waiter
            }
        };
        match self.wait(waiter, patience).await? {
            Waited::Value(entry) | Waited::Stale(entry) => Some(Ok(entry.value().credentials().clone())),
            Waited::Refused(failure) => Some(Err(failure.0.clone())),
            Waited::Again => None,
        }
    }

    /// Waits for a fetch, and abandons one that is overdue.
    async fn wait(
        &self,
        waiter: Waiter<CachedCredentials, FetchError>,
        patience: Duration,
    ) -> Option<Waited<CachedCredentials, FetchError>> {
        let waited = self.timer.within(patience, waiter.wait()).await;
        if waited.is_err() {
            // A little less than the wait: the fetch may have begun a moment after it.
            self.flight.abandon_overdue(self.limit.saturating_sub(INTERVAL), self.reader.now());
        }
        waited.ok()
    }

    /// Fetches in a task, because a dropped request must not cancel the fetch of others. Without a runtime for a task the
    /// request itself fetches.
    async fn fetch_for_all(self: &Arc<Self>, leader: SlotLeader<CachedCredentials, FetchError>) {
        let fetch = self.fetch(leader);
        let Ok(runtime) = Handle::try_current() else { return fetch.await };
        let cell = Arc::downgrade(self);
        self.fetching.start(&runtime, async move {
            fetch.await;
            if let (Some(cell), Ok(runtime)) = (cell.upgrade(), Handle::try_current()) {
                cell.keep_renewed(&runtime);
            }
        });
    }

    /// Starts a renewal, unless one runs.
    async fn start_renewal(self: &Arc<Self>, now: Now) {
        let stuck = self.flight.abandon_overdue(self.limit, now);
        if let Ok(runtime) = Handle::try_current() {
            self.keep_renewed(&runtime);
        }
        match self.lead_if_due(now) {
            // The task was stuck: this runtime is driven for its requests only, so this request fetches.
            Some(leader) if stuck => self.fetch(leader).await,
            Some(leader) => self.fetch_for_all(leader).await,
            None => {}
        }
    }

    fn fetch(
        self: &Arc<Self>,
        leader: SlotLeader<CachedCredentials, FetchError>,
    ) -> impl Future<Output = ()> + Send + use<> {
        // Without the cell, which a fetch must not keep alive.
        fetch::fetch(self.upstream.clone(), self.flight.begin(leader, self.reader.now()))
    }

    /// Returns the permit to renew, if the credentials are due. `None` while a fetch runs, or just after one failed.
    fn lead_if_due(&self, now: Now) -> Option<SlotLeader<CachedCredentials, FetchError>> {
        let leader = self.reader.slot().begin_ahead(now, MARGIN)?;
        // Read again: another renewal may have ended just before.
        self.reader.due_in(now).is_zero().then_some(leader)
    }

    /// Starts the task that renews, unless it runs or there is nothing to renew.
    fn keep_renewed(self: &Arc<Self>, runtime: &Handle) {
        if self.refresh == Refresh::Background && self.valid_credentials().is_some() {
            self.renewing.start_unless_running(runtime, || renew(Arc::downgrade(self)));
        }
    }
}

/// Renews until the cell is dropped. The task holds no reference while it sleeps, and the end of the cell aborts it.
async fn renew(cell: Weak<CredentialCell>) {
    loop {
        let waits = cell.upgrade().map(|cell| (cell.timer.clone(), cell.reader.due_in(cell.reader.now())));
        let Some((timer, due_in)) = waits else { return };
        // At least a second: a source may return credentials that are about to expire.
        timer.sleep(due_in.clamp(INTERVAL, LONGEST_SLEEP)).await;
        // The machine may have slept, or its clock been set, so the clock decides and not the timer.
        let renewal = cell.upgrade().and_then(|cell| Some(cell.fetch(cell.lead_if_due(cell.reader.now())?)));
        if let Some(renewal) = renewal {
            renewal.await;
        }
    }
}
