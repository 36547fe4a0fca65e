//! Where a cell's credentials come from, and what is said of it in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_types::error::display::DisplayErrorContext;
use pod_identity_core::cache::{Effect, Refusal, SlotLead};

use super::held::{Held, Home};
use crate::clock::Clock;

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

/// Fetches, and lets all who wait know.
pub(super) async fn fetch(source: Arc<Source>, home: Home, lead: SlotLead<Held, Failure>) {
    let answer = source.provider.provide_credentials().await;
    let now = source.clock.now();
    let held = answer.and_then(|credentials| Ok(Held::new(credentials, now, source.ahead, home)?));
    source.log(&held);
    lead.complete(now, held.map_err(|error| Failure(Arc::new(error))));
}
