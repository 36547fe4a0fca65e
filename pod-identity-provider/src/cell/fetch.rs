//! Fetches and their log lines.

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

/// Fetched credentials that expire within this time do not replace cached ones that expire later. The agents of this
/// project and of AWS serve no such credentials.
const NEAR_EXPIRY: Duration = Duration::from_secs(15);

/// The source of a cell's credentials.
#[derive(Debug)]
pub(super) struct Upstream {
    provider: SharedCredentialsProvider,
    reader: Arc<Reader>,
    refresh_ahead: Duration,
    /// The end of the last `Retry-After` pause by the monotonic clock, and the error that asked for it.
    pause: Mutex<Option<(Duration, Error)>>,
}

impl Upstream {
    pub(super) fn new(
        provider: impl ProvideCredentials + 'static,
        reader: Arc<Reader>,
        refresh_ahead: Duration,
    ) -> Self {
        let provider = SharedCredentialsProvider::new(provider);
        Self { provider, reader, refresh_ahead, pause: Mutex::default() }
    }

    /// Returns a cache entry for fetched credentials.
    ///
    /// # Errors
    /// [`Error::Expired`] if the credentials have expired, or are [near expiry](NEAR_EXPIRY) and the cached ones expire later.
    fn cached(&self, credentials: Credentials, now: Now) -> Result<CachedCredentials, Error> {
        let cached = CachedCredentials::new(credentials, now, self.refresh_ahead)?;
        let expires_at = cached.expires_at();
        let near_expiry = expires_at.duration_since(now.wall).is_ok_and(|remaining| remaining <= NEAR_EXPIRY);
        if near_expiry && self.reader.outlasts(expires_at, now) {
            return Err(Error::Expired(ExpiredCredentials { expired_at: expires_at, now: now.wall }));
        }
        Ok(cached)
    }

    /// Returns the error that asked for a pause if the pause has not ended.
    fn active_pause(&self, now: Now) -> Option<Error> {
        let pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        pause.as_ref().filter(|(until, _)| now.monotonic < *until).map(|(_, error)| error.clone())
    }

    /// Records the pause that an error asks for (`Retry-After`). During a pause the same error is returned again, which must
    /// not extend the pause.
    fn record_pause(&self, error: &Error, now: Now) {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if pause.as_ref().is_none_or(|(until, _)| now.monotonic >= *until) {
            let until = error.retry_after().map(|wait| now.monotonic.saturating_add(wait));
            *pause = until.map(|until| (until, error.clone()));
        }
    }

    /// Logs the first failure, and the first success after failures. Further results are logged at debug level.
    fn log(&self, result: &Result<CachedCredentials, Error>) {
        match (result, self.reader.record_result(result.is_err())) {
            (Ok(_), false) => tracing::debug!("credentials fetched"),
            (Ok(_), true) => tracing::info!("credentials fetched after failures"),
            (Err(error), false) => tracing::warn!(%error, "credential fetch failed"),
            (Err(error), true) => tracing::debug!(%error, "credential fetch failed again"),
        }
    }
}

/// The leader of a flight. The fetch holds it until it ends or is abandoned.
pub(super) type Leader = Mutex<Option<SlotLeader<CachedCredentials, FetchError>>>;

/// The fetch that was started last.
#[derive(Debug, Default)]
pub(super) struct Flight(Mutex<Option<StartedFetch>>);

#[derive(Debug)]
struct StartedFetch {
    started_at: Duration,
    leader: Weak<Leader>,
}

impl Flight {
    /// Records the start of a fetch.
    pub(super) fn begin(&self, leader: SlotLeader<CachedCredentials, FetchError>, now: Now) -> Arc<Leader> {
        let leader = Arc::new(Mutex::new(Some(leader)));
        let started = StartedFetch { started_at: now.monotonic, leader: Arc::downgrade(&leader) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        leader
    }

    /// Abandons the fetch if it has run for longer than `limit`, and returns whether it did. The cause is a runtime that is
    /// not polled, or a frozen process. All waiting requests start again, and a late result of the fetch is discarded.
    pub(super) fn abandon_overdue(&self, limit: Duration, now: Now) -> bool {
        let flight = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue =
            flight.as_ref().filter(|started| now.monotonic.saturating_sub(started.started_at) > limit);
        let leader = overdue.and_then(|started| started.leader.upgrade());
        drop(flight);
        leader.is_some_and(|leader| take(&leader).is_some())
    }
}

fn take(leader: &Leader) -> Option<SlotLeader<CachedCredentials, FetchError>> {
    leader.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Fetches credentials and publishes the result to all waiting requests.
pub(super) async fn fetch(upstream: Arc<Upstream>, leader: Arc<Leader>) {
    let result = match upstream.active_pause(upstream.reader.now()) {
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

/// Calls the provider. A panic counts as a failure, so that the pause after failures applies.
async fn call(provider: &SharedCredentialsProvider) -> Result<Credentials, Error> {
    let mut call = pin!(async { provider.provide_credentials().await.map_err(Error::of_source) });
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(Error::panicked())))
    })
    .await
}
