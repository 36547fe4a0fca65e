//! Credentials that are renewed ahead of their end, fetched once for all who wait, and read without a lock.

mod fetch;
mod held;
mod keeper;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use aws_smithy_runtime_api::client::identity::Identity;
use pod_identity_core::cache::{Serving, Slot, SlotBegin, SlotLead, Waited};
use pod_identity_core::now::Now;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::clock::Clock;
use crate::error::{self, Error};

use fetch::{Failure, Source};
use held::Held;
pub(crate) use held::Home;

/// Credentials are served until they end: AWS refuses them no earlier.
const MARGIN: Duration = Duration::ZERO;
/// How often a request begins whose fetch was dropped, because the runtime that it ran on ended.
const ATTEMPTS: usize = 3;
/// How often, at most, requests that find the credentials due see to their renewal.
const LOOK: Duration = Duration::from_secs(1);

/// Who fetches credentials ahead of their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refresh {
    /// A task, whether or not anybody asks: no request waits for credentials but the first. It runs where the first
    /// request ran, on the caller's tokio runtime, and ends with the provider; where that runtime ends first, the
    /// next request that finds the credentials due starts another.
    #[default]
    Background,
    /// The requests: the first that finds the credentials due starts their fetch, and none waits for it while there
    /// are some that hold. For programs that are frozen between requests, or short. Without a tokio runtime that
    /// first request waits for its own fetch.
    OnRequest,
}

/// The credentials of one provider. It lives for as long as a provider or an identity cache knows it.
#[derive(Debug)]
pub(crate) struct Cell {
    slot: Arc<Slot<Held, Failure>>,
    source: Arc<Source>,
    clock: Clock,
    sleep: SharedAsyncSleep,
    refresh: Refresh,
    /// When requests see to a renewal again, in milliseconds of the monotonic clock.
    looks_again: AtomicU64,
    keeper: Mutex<Option<AbortHandle>>,
}

impl Cell {
    /// A cell that is filled from `provider`, and renewed when `ahead` is left, or half of a life that is shorter
    /// than twice that. The provider's calls have an end of their own.
    pub(crate) fn new(
        provider: impl ProvideCredentials + 'static,
        clock: Clock,
        sleep: SharedAsyncSleep,
        refresh: Refresh,
        ahead: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            slot: Arc::default(),
            source: Arc::new(Source::new(provider, clock.clone(), ahead)),
            clock,
            sleep,
            refresh,
            looks_again: AtomicU64::new(0),
            keeper: Mutex::default(),
        })
    }

    /// The credentials, fetched where there are none.
    pub(crate) async fn credentials(self: &Arc<Self>) -> Result<Credentials, CredentialsError> {
        self.held(|held| held.credentials().clone()).await
    }

    /// The same as an SDK's identity.
    pub(crate) async fn identity(self: &Arc<Self>) -> Result<Identity, CredentialsError> {
        self.held(Held::identity).await
    }

    /// The identity, where nobody has to wait for it: no lock is taken, and nothing written that another thread
    /// reads.
    pub(crate) fn identity_at_hand(self: &Arc<Self>) -> Option<Identity> {
        let now = self.clock.now();
        let (identity, due) = self.peek(now, Held::identity)?;
        if due {
            self.see_to_renewal(&Handle::try_current().ok()?, now);
        }
        Some(identity)
    }

    /// The credentials, where there are some that hold.
    pub(crate) fn credentials_at_hand(&self) -> Option<Credentials> {
        self.peek(self.clock.now(), |held| held.credentials().clone()).map(|(credentials, _)| credentials)
    }

    /// What is held, and whether it is due.
    fn peek<R>(&self, now: Now, take: impl FnOnce(&Held) -> R) -> Option<(R, bool)> {
        self.slot
            .peek(now, MARGIN, |entry| (take(entry.value()), entry.value().is_due(entry.expiry().left(now))))
    }

    async fn held<R>(self: &Arc<Self>, take: impl Fn(&Held) -> R) -> Result<R, CredentialsError> {
        for _ in 0..ATTEMPTS {
            let (now, runtime) = (self.clock.now(), Handle::try_current());
            if let Some((taken, due)) = self.peek(now, &take) {
                match runtime {
                    Ok(runtime) if due => self.see_to_renewal(&runtime, now),
                    Err(_) if due && self.looks(now) => self.renew(now).await,
                    _ => {}
                }
                // What a renewal has just brought is for the next request.
                return Ok(taken);
            }
            let (waiter, leads) = match self.slot.begin(None, now, Serving::until_end(MARGIN)) {
                SlotBegin::Hit(entry) | SlotBegin::Stale(entry) => return Ok(take(entry.value())),
                SlotBegin::Refused(failure) => return Err(error::shared(&failure.0)),
                SlotBegin::Wait(waiter) => (waiter, false),
                SlotBegin::Lead(lead, waiter) => {
                    let fetch = self.fetch(lead);
                    match &runtime {
                        // A caller that is dropped must not cancel what others wait for.
                        Ok(runtime) => drop(runtime.spawn(fetch)),
                        Err(_) => fetch.await,
                    }
                    (waiter, true)
                }
            };
            match waiter.wait().await {
                Waited::Value(entry) | Waited::Stale(entry) => {
                    if let (true, Ok(runtime)) = (leads, runtime) {
                        self.keep(&runtime);
                    }
                    return Ok(take(entry.value()));
                }
                Waited::Refused(failure) => return Err(error::shared(&failure.0)),
                Waited::Again => {}
            }
        }
        Err(Error::GivenUp.into())
    }

    fn fetch(self: &Arc<Self>, lead: SlotLead<Held, Failure>) -> impl Future<Output = ()> + Send + use<> {
        // Without the cell: a fetch must not keep it alive.
        fetch::fetch(self.source.clone(), Home::of(self), lead)
    }

    /// Fetches anew, unless somebody does already.
    async fn renew(self: &Arc<Self>, now: Now) {
        if let Some(lead) = self.slot.begin_ahead(now, MARGIN) {
            self.fetch(lead).await;
        }
    }

    /// Has the credentials renewed on that runtime, if nobody has looked a moment ago.
    fn see_to_renewal(self: &Arc<Self>, runtime: &Handle, now: Now) {
        if !self.looks(now) {
            return;
        }
        match self.refresh {
            Refresh::Background => self.keep(runtime),
            Refresh::OnRequest => {
                if let Some(lead) = self.slot.begin_ahead(now, MARGIN) {
                    runtime.spawn(self.fetch(lead));
                }
            }
        }
    }

    /// Whether this request is the one of this second that looks after the renewal.
    fn looks(&self, now: Now) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (now, again) = (millis(now.monotonic), millis(now.monotonic + LOOK));
        let due = self.looks_again.load(Ordering::Relaxed);
        now >= due
            && self.looks_again.compare_exchange(due, again, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Starts the task that renews, unless it runs.
    fn keep(self: &Arc<Self>, runtime: &Handle) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if self.refresh == Refresh::Background && keeper.as_ref().is_none_or(AbortHandle::is_finished) {
            *keeper = Some(runtime.spawn(keeper::keep(Arc::downgrade(self))).abort_handle());
        }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper {
            keeper.abort();
        }
    }
}
