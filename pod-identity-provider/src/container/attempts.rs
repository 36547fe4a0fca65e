//! Asking again, within one deadline.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_async::future::timeout::Timeout;
use pod_identity_core::backoff::{Backoff, random_fraction};

use super::endpoint::Endpoint;
use super::{ContainerCredentials, Fault};
use crate::error::{EndpointError, Error, Failure};

/// Pauses between attempts. An agent that restarts is there again in about a second.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

impl ContainerCredentials {
    /// Asks until there are credentials, an error that is final, or no time left for another attempt.
    pub(super) async fn within_deadline(&self, endpoint: &Endpoint) -> Result<Credentials, Error> {
        let transport = &self.transport;
        transport.check_runtime()?;
        let start = transport.clock.now().monotonic;
        let took = || transport.clock.now().monotonic.saturating_sub(start);
        let (mut attempts, mut before) = (0, None);
        loop {
            attempts += 1;
            let limit = transport.attempt.min(transport.deadline.saturating_sub(took()));
            let attempt = Timeout::new(self.attempt(endpoint), transport.timer.sleep(limit)).await;
            let (failure, retry_after) = match attempt {
                Ok(Ok(credentials)) => return Ok(credentials),
                Ok(Err(Fault::Error(error))) => return Err(error),
                Ok(Err(Fault::Failure { failure, retry_after })) => (failure, retry_after),
                // One that the deadline has cut short says less than the one before it.
                Err(_) if limit < transport.attempt => (before.unwrap_or(Failure::TimedOut { limit }), None),
                Err(_) => (Failure::TimedOut { limit }, None),
            };
            let took = took();
            let pause = retry_after.unwrap_or_else(|| PAUSES.full_jitter(attempts, random_fraction()));
            if !failure.is_retryable() || took.saturating_add(pause) >= transport.deadline {
                return Err(Error::Endpoint(EndpointError {
                    endpoint: endpoint.origin(),
                    failure,
                    attempts,
                    took,
                }));
            }
            tracing::debug!(
                attempt = attempts,
                ?pause,
                cause = failure.cause(),
                "asking for credentials again"
            );
            before = Some(failure);
            transport.timer.sleep(pause).await;
        }
    }
}
