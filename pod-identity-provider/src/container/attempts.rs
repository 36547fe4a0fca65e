//! Asking again, within one deadline.

#[cfg(test)]
mod tests;

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_async::future::timeout::Timeout;
use pod_identity_core::backoff::{Backoff, random_fraction};

use super::ContainerCredentials;
use super::endpoint::Endpoint;
use crate::error::{Error, Failure};
use crate::transport::Transport;

/// Pauses between attempts. An agent that restarts is there again in about a second.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// How late a timer may be in a process that runs.
const LATE: Duration = Duration::from_secs(1);
/// How often a fetch gets a new deadline. A process that has too little CPU for its timers looks like one that is frozen
/// time and again, and must not ask for ever.
const THAWS: u32 = 3;

impl ContainerCredentials {
    /// Asks until there are credentials, an error that is final, or no time left for another attempt.
    pub(super) async fn within_deadline(&self, endpoint: &Endpoint) -> Result<Credentials, Error> {
        let transport = &self.transport;
        transport.check_runtime()?;
        let mut time = Allowance::begin(transport);
        let (mut attempts, mut before) = (0, None);
        loop {
            attempts += 1;
            let limit = transport.attempt.min(time.left());
            let attempt = Timeout::new(self.attempt(endpoint), transport.timer.sleep(limit));
            let fault = match (time.step(limit, attempt).await, before) {
                (Ok(Ok(credentials)), _) => return Ok(credentials),
                (Ok(Err(fault)), _) => fault,
                // One that the deadline has cut short says less than the one before it.
                (Err(_), Some(before)) if limit < transport.attempt => before,
                (Err(_), _) => Failure::TimedOut { limit }.into(),
            };
            // What the endpoint asks for comes before the jitter, and not in its place: pods that it turned away
            // together must not come back together, nor in a loop where it asks for nothing.
            let jittered = PAUSES.full_jitter(attempts, random_fraction());
            let pause = fault.retry_after().unwrap_or_default().saturating_add(jittered);
            if !fault.is_retryable() || pause >= time.left() {
                return Err(fault.into_error(endpoint, attempts, time.took()));
            }
            tracing::debug!(
                attempt = attempts,
                ?pause,
                cause = fault.cause(),
                "asking for credentials again"
            );
            before = Some(fault.waited_for());
            time.step(pause, transport.timer.sleep(pause)).await;
        }
    }
}

/// The time that a fetch has. It begins anew after a step in which the process was frozen (by its cgroup's freezer, a
/// SIGSTOP, a suspended runtime): a request that a program makes when it wakes must not fail for the time that it slept.
struct Allowance<'a> {
    transport: &'a Transport,
    began: Duration,
    deadline_from: Duration,
    thaws: u32,
}

impl<'a> Allowance<'a> {
    fn begin(transport: &'a Transport) -> Self {
        let now = transport.clock.now().monotonic;
        Self { transport, began: now, deadline_from: now, thaws: 0 }
    }

    fn took(&self) -> Duration {
        self.since(self.began)
    }

    fn left(&self) -> Duration {
        self.transport.deadline.saturating_sub(self.since(self.deadline_from))
    }

    /// Does what a timer ends after `limit` at most.
    async fn step<T>(&mut self, limit: Duration, step: impl Future<Output = T>) -> T {
        let before = self.transport.clock.now().monotonic;
        let done = step.await;
        if self.since(before) > limit.saturating_add(LATE) && self.thaws < THAWS {
            self.thaws += 1;
            self.deadline_from = self.transport.clock.now().monotonic;
        }
        done
    }

    fn since(&self, then: Duration) -> Duration {
        self.transport.clock.now().monotonic.saturating_sub(then)
    }
}
