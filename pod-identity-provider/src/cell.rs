//! The credential cell: cached credentials that are read without a lock, fetched once for all waiting requests, and renewed
//! ahead of expiry.

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

use cached::{CachedCredentials, Freshness};
use fetch::{Flight, Upstream};
use reader::{EXPIRY_MARGIN, FetchError, Reader};
use task::Task;
use throttle::{INTERVAL, Throttle};

/// The number of fetches that one request waits for. A fetch is dropped if its runtime ends.
const MAX_FETCHES: usize = 3;
/// The longest sleep of the renewal task. Timers stop while a machine is suspended, so the task must read the clock at
/// least this often.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// How credentials are renewed ahead of expiry.
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
    /// A background task renews them, with or without requests. Only the first request waits.
    ///
    /// The task runs on the tokio runtime of the first fetch and ends with the provider. If that runtime has ended or is
    /// not polled, a request that finds the credentials due starts their renewal on its own runtime.
    #[default]
    Background,
    /// The first request that finds the credentials due starts their renewal and returns the cached ones. Without a tokio
    /// runtime this request waits for the fetch. Use this for short programs, and for programs that are frozen between
    /// requests.
    OnRequest,
}

/// The credentials of one provider. The provider and its identity caches share it. Its tasks end when it is dropped.
#[derive(Debug)]
pub(crate) struct CredentialCell {
    reader: Arc<Reader>,
    upstream: Arc<Upstream>,
    timer: Timer,
    refresh: Refresh,
    /// The time after which a fetch is overdue.
    fetch_limit: Duration,
    /// Limits the requests that check whether a renewal runs.
    throttle: Throttle,
    flight: Flight,
    /// The last fetch that a request started.
    fetch_task: Task,
    renewal_task: Task,
}

impl CredentialCell {
    /// Returns an empty cell that fetches from `provider`. The provider must end each call within `deadline`. Credentials
    /// are due for renewal `refresh_ahead` before expiry, or halfway through a lifetime shorter than twice that.
    pub(crate) fn new(
        provider: impl ProvideCredentials + 'static,
        clock: Clock,
        timer: Timer,
        refresh: Refresh,
        refresh_ahead: Duration,
        deadline: Duration,
    ) -> Arc<Self> {
        let reader = Arc::new(Reader::new(clock));
        Arc::new(Self {
            upstream: Arc::new(Upstream::new(provider, reader.clone(), refresh_ahead)),
            reader,
            timer,
            refresh,
            fetch_limit: deadline.saturating_add(INTERVAL),
            throttle: Throttle::default(),
            flight: Flight::default(),
            fetch_task: Task::default(),
            renewal_task: Task::default(),
        })
    }

    /// Returns the cached credentials. Fetches them if there are none.
    pub(crate) async fn credentials(self: &Arc<Self>) -> Result<Credentials, Error> {
        for _ in 0..MAX_FETCHES {
            let now = self.reader.now();
            let (margin, max_wait) = match self.reader.credentials(now) {
                None => (EXPIRY_MARGIN, self.fetch_limit),
                Some((credentials, Freshness::Fresh)) => return Ok(credentials),
                Some((credentials, Freshness::RenewalDue)) => {
                    if !self.throttle.allows(now) {
                        return Ok(credentials);
                    }
                    self.start_renewal(now).await;
                    // They may have expired while this request waited.
                    match self.valid_credentials() {
                        Some(credentials) => return Ok(credentials),
                        None => continue,
                    }
                }
                // The other half of the remaining time is for the request that uses the credentials.
                Some((_, Freshness::NearExpiry { remaining })) => (remaining, remaining / 2),
            };
            match self.join_fetch(now, margin, max_wait).await {
                Some(Ok(credentials)) => return Ok(credentials),
                Some(Err(error)) => return self.valid_credentials().ok_or(error),
                None if margin > EXPIRY_MARGIN => break,
                None => {}
            }
        }
        self.valid_credentials().ok_or_else(Error::dropped)
    }

    /// Returns the cached credentials if they are valid.
    pub(crate) fn valid_credentials(&self) -> Option<Credentials> {
        self.reader.credentials(self.reader.now()).map(|(credentials, _)| credentials)
    }

    /// Returns the identity of the cached credentials if they are not due for renewal.
    pub(crate) fn fresh_identity(&self) -> Option<Identity> {
        self.reader.fresh_identity()
    }

    /// Joins the running fetch, or starts one, and returns its result. Returns `None` if the fetch was dropped or takes
    /// longer than `max_wait`.
    async fn join_fetch(
        self: &Arc<Self>,
        now: Now,
        margin: Duration,
        max_wait: Duration,
    ) -> Option<Result<Credentials, Error>> {
        let waiter = match self.reader.slot().begin(None, now, Serving::until_end(margin)) {
            SlotBegin::Hit(entry) | SlotBegin::Stale(entry) => {
                return Some(Ok(entry.value().credentials().clone()));
            }
            SlotBegin::Refused(failure) => return Some(Err(failure.0.clone())),
            SlotBegin::Wait(_) if self.flight.abandon_overdue(self.fetch_limit, now) => return None,
            SlotBegin::Wait(waiter) => waiter,
            SlotBegin::Lead(leader, waiter) => {
                self.run_fetch(leader).await;
                waiter
            }
        };
        match self.wait(waiter, max_wait).await? {
            Waited::Value(entry) | Waited::Stale(entry) => Some(Ok(entry.value().credentials().clone())),
            Waited::Refused(failure) => Some(Err(failure.0.clone())),
            Waited::Again => None,
        }
    }

    /// Waits for a fetch. Abandons it if it is overdue.
    async fn wait(
        &self,
        waiter: Waiter<CachedCredentials, FetchError>,
        max_wait: Duration,
    ) -> Option<Waited<CachedCredentials, FetchError>> {
        let waited = self.timer.timeout(max_wait, waiter.wait()).await;
        if waited.is_err() {
            // Slightly below the limit, because the fetch may have started just after the wait.
            self.flight.abandon_overdue(self.fetch_limit.saturating_sub(INTERVAL), self.reader.now());
        }
        waited.ok()
    }

    /// Fetches in a task, because dropping one request must not cancel the fetch for the others. Without a runtime the
    /// request itself fetches.
    async fn run_fetch(self: &Arc<Self>, leader: SlotLeader<CachedCredentials, FetchError>) {
        let fetch = self.fetch(leader);
        let Ok(runtime) = Handle::try_current() else { return fetch.await };
        let cell = Arc::downgrade(self);
        self.fetch_task.start(&runtime, async move {
            fetch.await;
            if let (Some(cell), Ok(runtime)) = (cell.upgrade(), Handle::try_current()) {
                cell.ensure_renewal_task(&runtime);
            }
        });
    }

    /// Starts a renewal unless one is running.
    async fn start_renewal(self: &Arc<Self>, now: Now) {
        let stuck = self.flight.abandon_overdue(self.fetch_limit, now);
        if let Ok(runtime) = Handle::try_current() {
            self.ensure_renewal_task(&runtime);
        }
        match self.lead_if_due(now) {
            // A stuck task shows that this runtime is polled only during requests, so a new task would get stuck too.
            Some(leader) if stuck => self.fetch(leader).await,
            Some(leader) => self.run_fetch(leader).await,
            None => {}
        }
    }

    fn fetch(
        self: &Arc<Self>,
        leader: SlotLeader<CachedCredentials, FetchError>,
    ) -> impl Future<Output = ()> + Send + use<> {
        // The fetch must not keep the cell alive, so it gets the parts.
        fetch::fetch(self.upstream.clone(), self.flight.begin(leader, self.reader.now()))
    }

    /// Returns the leader of a new flight if the credentials are due. Returns `None` while a fetch is running, and during
    /// the pause after a failed fetch.
    fn lead_if_due(&self, now: Now) -> Option<SlotLeader<CachedCredentials, FetchError>> {
        let leader = self.reader.slot().begin_ahead(now, EXPIRY_MARGIN)?;
        // Another renewal may have ended just before.
        self.reader.due_in(now).is_zero().then_some(leader)
    }

    /// Starts the renewal task, unless it is running or there is nothing to renew.
    fn ensure_renewal_task(self: &Arc<Self>, runtime: &Handle) {
        if self.refresh == Refresh::Background && self.valid_credentials().is_some() {
            self.renewal_task.start_unless_running(runtime, || renew(Arc::downgrade(self)));
        }
    }
}

/// Renews until the cell is dropped. The task holds no strong reference while it sleeps, and dropping the cell aborts it.
async fn renew(cell: Weak<CredentialCell>) {
    loop {
        let next = cell.upgrade().map(|cell| (cell.timer.clone(), cell.reader.due_in(cell.reader.now())));
        let Some((timer, due_in)) = next else { return };
        // The lower bound matters if a source returns credentials that are about to expire.
        timer.sleep(due_in.clamp(INTERVAL, MAX_SLEEP)).await;
        // The machine may have been suspended or its clock set, so the clock decides and not the timer.
        let renewal = cell.upgrade().and_then(|cell| Some(cell.fetch(cell.lead_if_due(cell.reader.now())?)));
        if let Some(renewal) = renewal {
            renewal.await;
        }
    }
}
