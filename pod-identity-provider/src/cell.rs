//! Credentials that are renewed ahead of their end, fetched once for all who wait, and read without a lock.

mod fetch;
mod gate;
mod held;
mod keeper;
mod origin;
mod reader;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use pod_identity_core::cache::{Serving, SlotBegin, SlotLead, Waited, Waiter};
use pod_identity_core::now::Now;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::error::{self, Error};
use crate::timer::Timer;

use fetch::{FetchError, Flight, Upstream};
pub(crate) use gate::Gate;
use gate::LOOK;
use held::Held;
pub(crate) use held::Need;
pub(crate) use origin::Origin;
pub(crate) use reader::Reader;
use task::Task;

/// Credentials are served until they end: AWS refuses them no earlier.
const MARGIN: Duration = Duration::ZERO;
/// How often a request begins whose fetch was dropped, because the runtime that it ran on ended.
const ATTEMPTS: usize = 3;
/// Who fetches credentials ahead of their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Refresh {
    /// A task, whether or not anybody asks: no request waits for credentials but the first. It runs on the caller's
    /// tokio runtime, where the first fetch ran, and ends with the provider. Where that runtime ends first, or nobody
    /// drives it, the next request that finds the credentials due has them renewed on its own.
    #[default]
    Background,
    /// The requests: the first that finds the credentials due starts their fetch, and none waits for it while there
    /// are some that hold. For programs that are frozen between requests, or short. Without a tokio runtime that
    /// first request waits for its own fetch.
    OnRequest,
}

/// The credentials of one provider. It lives for as long as the provider, and its tasks end with it.
#[derive(Debug)]
pub(crate) struct Cell {
    reader: Arc<Reader>,
    upstream: Arc<Upstream>,
    timer: Timer,
    refresh: Refresh,
    /// How long a fetch may go on.
    limit: Duration,
    /// The requests that see to a renewal.
    gate: Gate,
    flight: Flight,
    /// The last fetch that a request began.
    fetching: Task,
    keeper: Task,
}

impl Cell {
    /// A cell that is filled from `provider`, and renewed when `ahead` is left, or half of a life that is shorter
    /// than twice that. The provider's calls end by themselves within `deadline`.
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
            limit: deadline.saturating_add(LOOK),
            gate: Gate::default(),
            flight: Flight::default(),
            fetching: Task::default(),
            keeper: Task::default(),
        })
    }

    /// The credentials, fetched where there are none.
    pub(crate) async fn credentials(self: &Arc<Self>) -> Result<Credentials, CredentialsError> {
        for _ in 0..ATTEMPTS {
            let now = self.reader.now();
            let (margin, patience) = match self.reader.credentials(now) {
                None => (MARGIN, self.limit),
                Some((credentials, Need::Nothing)) => return Ok(credentials),
                Some((credentials, Need::Renewal)) => {
                    if !self.gate.lets_through(now) {
                        return Ok(credentials);
                    }
                    self.see_to_renewal(now).await;
                    // Looked at again: that may have taken until after their end.
                    match self.credentials_at_hand() {
                        Some(credentials) => return Ok(credentials),
                        None => continue,
                    }
                }
                // What is left is for the request itself, too.
                Some((_, Need::Fetch { left })) => (left, left / 2),
            };
            match self.fetched(now, margin, patience).await {
                Some(Ok(credentials)) => return Ok(credentials),
                Some(Err(error)) => return self.credentials_at_hand().ok_or(error),
                None if margin > MARGIN => break,
                None => {}
            }
        }
        self.credentials_at_hand().ok_or_else(|| Error::GivenUp.into())
    }

    /// The credentials, where there are some that hold.
    pub(crate) fn credentials_at_hand(&self) -> Option<Credentials> {
        self.reader.credentials(self.reader.now()).map(|(credentials, _)| credentials)
    }

    /// What a fetch brings, this request's or another's; none where it came to nothing, or takes longer than
    /// `patience`.
    async fn fetched(
        self: &Arc<Self>,
        now: Now,
        margin: Duration,
        patience: Duration,
    ) -> Option<Result<Credentials, CredentialsError>> {
        let waiter = match self.reader.slot().begin(None, now, Serving::until_end(margin)) {
            SlotBegin::Hit(entry) | SlotBegin::Stale(entry) => {
                return Some(Ok(entry.value().credentials().clone()));
            }
            SlotBegin::Refused(failure) => return Some(Err(error::shared(&failure.0))),
            SlotBegin::Wait(_) if self.flight.abandon_overdue(self.limit, now) => return None,
            SlotBegin::Wait(waiter) => waiter,
            SlotBegin::Lead(lead, waiter) => {
                self.fetch_for_all(lead).await;
                waiter
            }
        };
        match self.wait(waiter, patience).await? {
            Waited::Value(entry) | Waited::Stale(entry) => Some(Ok(entry.value().credentials().clone())),
            Waited::Refused(failure) => Some(Err(error::shared(&failure.0))),
            Waited::Again => None,
        }
    }

    /// Waits for a fetch, and ends one that should have ended long ago.
    async fn wait(
        &self,
        waiter: Waiter<Held, FetchError>,
        patience: Duration,
    ) -> Option<Waited<Held, FetchError>> {
        let waited = self.timer.within(patience, waiter.wait()).await;
        if waited.is_err() {
            // A moment less than it was waited for: the fetch may have begun a moment after.
            self.flight.abandon_overdue(self.limit.saturating_sub(LOOK), self.reader.now());
        }
        waited.ok()
    }

    /// Fetches in a task, because a caller that is dropped must not cancel what others wait for; where there is no
    /// runtime for one, the caller fetches.
    async fn fetch_for_all(self: &Arc<Self>, lead: SlotLead<Held, FetchError>) {
        let fetch = self.fetch(lead);
        let Ok(runtime) = Handle::try_current() else { return fetch.await };
        let cell = Arc::downgrade(self);
        self.fetching.start(&runtime, async move {
            fetch.await;
            if let (Some(cell), Ok(runtime)) = (cell.upgrade(), Handle::try_current()) {
                cell.keep(&runtime);
            }
        });
    }

    /// Has the credentials renewed, unless somebody fetches already.
    async fn see_to_renewal(self: &Arc<Self>, now: Now) {
        let stuck = self.flight.abandon_overdue(self.limit, now);
        if let Ok(runtime) = Handle::try_current() {
            self.keep(&runtime);
        }
        match self.lead_if_due(now) {
            // A task got nowhere: nobody drives this runtime but for its requests, so this one is to fetch.
            Some(lead) if stuck => self.fetch(lead).await,
            Some(lead) => self.fetch_for_all(lead).await,
            None => {}
        }
    }

    fn fetch(self: &Arc<Self>, lead: SlotLead<Held, FetchError>) -> impl Future<Output = ()> + Send + use<> {
        // Without the cell: a fetch must not keep it alive.
        fetch::fetch(self.upstream.clone(), self.flight.begin(lead, self.reader.now()))
    }

    /// The right to renew, if it is time: none where somebody fetches, or where a fetch failed a moment ago.
    fn lead_if_due(&self, now: Now) -> Option<SlotLead<Held, FetchError>> {
        let lead = self.reader.slot().begin_ahead(now, MARGIN)?;
        // Looked at again: a renewal may have ended just before this one could begin.
        self.reader.due_in(now).is_zero().then_some(lead)
    }

    /// Starts the task that renews, where there is something to renew, unless it runs.
    fn keep(self: &Arc<Self>, runtime: &Handle) {
        if self.refresh == Refresh::Background && self.credentials_at_hand().is_some() {
            self.keeper.start_unless_running(runtime, || keeper::keep(Arc::downgrade(self)));
        }
    }
}
