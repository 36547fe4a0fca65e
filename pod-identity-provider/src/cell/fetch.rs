//! Where a cell's credentials come from, and what is said of it in the log.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use pod_identity_core::cache::{Effect, Expires as _, Refusal, SlotLead};
use pod_identity_core::now::Now;

use super::held::Held;
use super::{Origin, Reader};
use crate::error::{self, Error};

/// With how little left an answer is not taken for a renewal of what lasts longer: the margin within which this project's
/// agent serves nothing, and AWS's neither.
const SOON: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Upstream {
    provider: SharedCredentialsProvider,
    reader: Arc<Reader>,
    ahead: Duration,
    /// What was said last with a time before which nobody is to ask again, and that time by the monotonic clock.
    turned_away: Mutex<Option<(Duration, Arc<CredentialsError>)>>,
}

/// Why there are no credentials, for all who waited. Whatever it is, credentials that hold stay: AWS alone says when
/// they end.
#[derive(Debug)]
pub(super) struct FetchError(pub(super) Arc<CredentialsError>);

impl Refusal for FetchError {
    fn effect(&self) -> Effect {
        Effect::CannotAsk
    }
}

impl Upstream {
    pub(super) fn new(
        provider: impl ProvideCredentials + 'static,
        reader: Arc<Reader>,
        ahead: Duration,
    ) -> Self {
        let provider = SharedCredentialsProvider::new(provider);
        Self { provider, reader, ahead, turned_away: Mutex::default() }
    }

    /// What the provider gives, to be held from now on.
    fn hold(&self, credentials: Credentials, now: Now) -> Result<Held, Error> {
        let held = Held::new(credentials, now, self.ahead, Origin::of(&self.reader))?;
        let end = held.expires_at();
        let ends_soon = end.duration_since(now.wall).is_ok_and(|left| left <= SOON);
        if ends_soon && self.reader.outlasts(end, now) {
            return Err(Error::Ended { expired_at: end, now: now.wall });
        }
        Ok(held)
    }

    /// Why nobody is to ask now.
    fn turned_away(&self, now: Now) -> Option<CredentialsError> {
        let turned_away = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, error) = turned_away.as_ref().filter(|(until, _)| now.monotonic < *until)?;
        Some(error::shared(error))
    }

    /// Takes note of the time that a refusal asks for (`Retry-After`), unless one that is taken note of says it again.
    fn heed(&self, error: &Arc<CredentialsError>, now: Now) {
        let asked_for = Error::of(&**error).and_then(Error::retry_after);
        let mut turned_away = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
        if turned_away.as_ref().is_none_or(|(until, _)| now.monotonic >= *until) {
            *turned_away = asked_for.map(|pause| (now.monotonic.saturating_add(pause), error.clone()));
        }
    }

    /// A failure is worth a line when it is the first, and so is its end.
    fn log(&self, answer: &Result<Held, CredentialsError>) {
        match (answer, self.reader.failed(answer.is_err())) {
            (Ok(_), false) => tracing::debug!("credentials fetched"),
            (Ok(_), true) => tracing::info!("credentials fetched again, after failures"),
            (Err(error), false) => {
                tracing::warn!(error = error::said(error), "credentials could not be fetched");
            }
            (Err(error), true) => {
                tracing::debug!(error = error::said(error), "credentials could not be fetched again");
            }
        }
    }
}

/// The right and the duty to fetch: with the fetch, until that has ended or been abandoned.
pub(super) type Lead = Mutex<Option<SlotLead<Held, FetchError>>>;

/// The fetch that began last.
#[derive(Debug, Default)]
pub(super) struct Flight(Mutex<Option<Begun>>);

#[derive(Debug)]
struct Begun {
    at: Duration,
    lead: Weak<Lead>,
}

impl Flight {
    /// Begins one.
    pub(super) fn begin(&self, lead: SlotLead<Held, FetchError>, now: Now) -> Arc<Lead> {
        let lead = Arc::new(Mutex::new(Some(lead)));
        let begun = Begun { at: now.monotonic, lead: Arc::downgrade(&lead) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        lead
    }

    /// Takes the lead from a fetch that goes on for longer than `limit`, and says whether it did: it runs on a runtime
    /// that nobody drives, or the process was frozen meanwhile. All who wait for it begin again, and what it still
    /// brings comes too late.
    pub(super) fn abandon_overdue(&self, limit: Duration, now: Now) -> bool {
        let flight = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue = flight.as_ref().filter(|begun| now.monotonic.saturating_sub(begun.at) > limit);
        let lead = overdue.and_then(|begun| begun.lead.upgrade());
        drop(flight);
        lead.is_some_and(|lead| take(&lead).is_some())
    }
}

fn take(lead: &Lead) -> Option<SlotLead<Held, FetchError>> {
    lead.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Fetches, and lets all who wait know.
pub(super) async fn fetch(upstream: Arc<Upstream>, lead: Arc<Lead>) {
    let answer = match upstream.turned_away(upstream.reader.now()) {
        Some(error) => Err(error),
        None => ask(&upstream.provider).await,
    };
    let now = upstream.reader.now();
    let held = answer.and_then(|credentials| Ok(upstream.hold(credentials, now)?));
    if let Some(lead) = take(&lead) {
        upstream.log(&held);
        let held = held.map_err(Arc::new).inspect_err(|error| upstream.heed(error, now));
        lead.complete(now, held.map_err(FetchError));
    }
}

/// The provider's answer. A provider that panics has failed: it is asked again after a pause, as others are, and not by
/// each request.
async fn ask(provider: &SharedCredentialsProvider) -> Result<Credentials, CredentialsError> {
    let mut call = pin!(async { provider.provide_credentials().await });
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(Error::Panicked.into())))
    })
    .await
}
