//! Fetches, and the lines that they log.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use pod_identity_core::cache::SlotLeader;
use pod_identity_core::time::{Expires as _, Now};

use super::cached::CachedCredentials;
use super::reader::{FetchError, Reader};
use crate::error::{Error, ExpiredCredentials};

/// Fetched credentials with so little life left do not replace cached ones that last longer. Neither this project's agent
/// nor AWS's serves credentials within this margin.
const SOON: Duration = Duration::from_secs(15);

/// The source of a cell's credentials.
#[derive(Debug)]
pub(super) struct Upstream {
    provider: SharedCredentialsProvider,
    reader: Arc<Reader>,
    ahead: Duration,
    /// The last error with a `Retry-After`, and the end of that pause by the monotonic clock.
    pause: Mutex<Option<(Duration, Error)>>,
}

impl Upstream {
    pub(super) fn new(
        provider: impl ProvideCredentials + 'static,
        reader: Arc<Reader>,
        ahead: Duration,
    ) -> Self {
        let provider = SharedCredentialsProvider::new(provider);
        Self { provider, reader, ahead, pause: Mutex::default() }
    }

    /// Prepares fetched credentials for the cache.
    fn cached(&self, credentials: Credentials, now: Now) -> Result<CachedCredentials, Error> {
        let cached = CachedCredentials::new(credentials, now, self.ahead)?;
        let expires_at = cached.expires_at();
        let soon = expires_at.duration_since(now.wall).is_ok_and(|left| left <= SOON);
        if soon && self.reader.outlasts(expires_at, now) {
            return Err(Error::Expired(ExpiredCredentials { expired_at: expires_at, now: now.wall }));
        }
        Ok(cached)
    }

    /// Returns the error that asked for a pause, while that pause lasts.
    fn pausing(&self, now: Now) -> Option<Error> {
        let pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        pause.as_ref().filter(|(until, _)| now.monotonic < *until).map(|(_, error)| error.clone())
    }

    /// Records the pause that an error asks for (`Retry-After`). An error that is returned again during its pause does not
    /// prolong it.
    fn record_pause(&self, error: &Error, now: Now) {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if pause.as_ref().is_none_or(|(until, _)| now.monotonic >= *until) {
            let until = error.retry_after().map(|wait| now.monotonic.saturating_add(wait));
            *pause = until.map(|until| (until, error.clone()));
        }
    }

    /// Logs the first failure and the first success after it. Others are debug lines.
    fn log(&self, result: &Result<CachedCredentials, Error>) {
        match (result, self.reader.failed(result.is_err())) {
            (Ok(_), false) => tracing::debug!("credentials fetched"),
            (Ok(_), true) => tracing::info!("credentials fetched again after failures"),
            (Err(error), false) => tracing::warn!(%error, "credentials not fetched"),
            (Err(error), true) => tracing::debug!(%error, "credentials still not fetched"),
        }
    }
}

/// The permit for a fetch. The fetch holds it until it ends or is abandoned.
pub(super) type Lead = Mutex<Option<SlotLeader<CachedCredentials, FetchError>>>;

/// The fetch that began last.
#[derive(Debug, Default)]
pub(super) struct Flight(Mutex<Option<Begun>>);

#[derive(Debug)]
struct Begun {
    at: Duration,
    leader: Weak<Lead>,
}

impl Flight {
    /// Begins a fetch.
    pub(super) fn begin(&self, leader: SlotLeader<CachedCredentials, FetchError>, now: Now) -> Arc<Lead> {
        let leader = Arc::new(Mutex::new(Some(leader)));
        let begun = Begun { at: now.monotonic, leader: Arc::downgrade(&leader) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        leader
    }

    /// Takes the permit from a fetch that has run for longer than `limit`, and returns whether it did. Such a fetch runs on
    /// a runtime that nobody drives, or its process was frozen. All waiting requests begin again, and its late result is
    /// discarded.
    pub(super) fn abandon_overdue(&self, limit: Duration, now: Now) -> bool {
        let flight = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue = flight.as_ref().filter(|begun| now.monotonic.saturating_sub(begun.at) > limit);
        let leader = overdue.and_then(|begun| begun.leader.upgrade());
        drop(flight);
        leader.is_some_and(|leader| take(&leader).is_some())
    }
}

fn take(leader: &Lead) -> Option<SlotLeader<CachedCredentials, FetchError>> {
    leader.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Fetches, and publishes the result to all waiting requests.
pub(super) async fn fetch(upstream: Arc<Upstream>, leader: Arc<Lead>) {
    let result = match upstream.pausing(upstream.reader.now()) {
        Some(error) => Err(error),
        None => call(&upstream.provider).await,
    };
    let now = upstream.reader.now();
    let result = result.and_then(|credentials| upstream.cached(credentials, now));
    if let Some(leader) = take(&leader) {
        upstream.log(&result);
        let result = result.inspect_err(|error| upstream.record_pause(error, now));
        leader.complete(now, result.map_err(FetchError));
    }
}

/// Calls the provider. A panic counts as a failure, so that the next call comes after a pause and not with each request.
async fn call(provider: &SharedCredentialsProvider) -> Result<Credentials, Error> {
    let mut call = pin!(async { provider.provide_credentials().await.map_err(Error::of_source) });
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(Error::panicked())))
    })
    .await
}
