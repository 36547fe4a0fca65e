//! Where a cell's credentials come from, and what is said of it in the log.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_types::error::display::DisplayErrorContext;
use pod_identity_core::cache::{Effect, Refusal, SlotLead};

use super::held::{Held, Home};
use crate::clock::Clock;
use crate::error::Error;

#[derive(Debug)]
pub(super) struct Source {
    provider: SharedCredentialsProvider,
    clock: Clock,
    ahead: Duration,
    /// Whether the last fetch failed.
    failing: AtomicBool,
}

/// Why there are no credentials, for all who waited. Whatever it is, credentials that hold stay: AWS alone says when
/// they end.
#[derive(Debug)]
pub(super) struct Failure(pub(super) Arc<CredentialsError>);

impl Refusal for Failure {
    fn effect(&self) -> Effect {
        Effect::CannotAsk
    }
}

impl Source {
    pub(super) fn new(provider: impl ProvideCredentials + 'static, clock: Clock, ahead: Duration) -> Self {
        let provider = SharedCredentialsProvider::new(provider);
        Self { provider, clock, ahead, failing: AtomicBool::new(false) }
    }

    /// A failure is worth a line when it is the first, and so is its end.
    fn log(&self, answer: &Result<Held, CredentialsError>) {
        let failed_before = self.failing.swap(answer.is_err(), Ordering::Relaxed);
        match (answer, failed_before) {
            (Ok(_), false) => tracing::debug!("credentials fetched"),
            (Ok(_), true) => tracing::info!("credentials fetched again, after failures"),
            (Err(error), false) => {
                tracing::warn!(error = %DisplayErrorContext(error), "credentials could not be fetched");
            }
            (Err(error), true) => {
                tracing::debug!(error = %DisplayErrorContext(error), "credentials could not be fetched again");
            }
        }
    }
}

/// The right and the duty to fetch: with the fetch, until that has ended or been abandoned.
pub(super) type Lead = Mutex<Option<SlotLead<Held, Failure>>>;

/// The fetch that began last.
#[derive(Debug, Default)]
pub(super) struct Flight(Mutex<Weak<Lead>>);

impl Flight {
    pub(super) fn begin(&self, lead: SlotLead<Held, Failure>) -> Arc<Lead> {
        let lead = Arc::new(Mutex::new(Some(lead)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&lead);
        lead
    }

    /// Its lead, which goes with whoever fetches.
    pub(super) fn lead(&self) -> Weak<Lead> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes the lead from a fetch: all who wait begin again, and what it still brings comes too late.
pub(super) fn abandon(lead: &Weak<Lead>) {
    if let Some(lead) = lead.upgrade() {
        drop(take(&lead));
    }
}

fn take(lead: &Lead) -> Option<SlotLead<Held, Failure>> {
    lead.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Fetches, and lets all who wait know.
pub(super) async fn fetch(source: Arc<Source>, home: Home, lead: Arc<Lead>) {
    let answer = ask(&source.provider).await;
    let now = source.clock.now();
    let held = answer.and_then(|credentials| Ok(Held::new(credentials, now, source.ahead, home)?));
    if let Some(lead) = take(&lead) {
        source.log(&held);
        lead.complete(now, held.map_err(|error| Failure(Arc::new(error))));
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
