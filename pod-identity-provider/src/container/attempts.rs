//! Retries within a deadline.

use std::time::Duration;

use aws_smithy_async::future::timeout::Timeout;
use pod_identity_core::backoff::{Backoff, random_fraction};

use super::attempt_error::AttemptError;
use crate::error::{Error, Failure};
use crate::transport::Transport;

/// The backoff between attempts. An agent needs about one second to restart.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// A timer that fires later than this shows that the process was frozen.
const MAX_TIMER_DELAY: Duration = Duration::from_secs(1);
/// The number of times that the deadline of a fetch restarts. The limit is for a process whose timers are always late
/// because it has too little CPU. It must not retry forever.
const MAX_RESTARTS: u32 = 3;

/// Repeats `attempt` until it returns credentials or a final error, or until the deadline leaves no time for an attempt.
pub(super) async fn within_deadline<T, A: Future<Output = Result<T, AttemptError>>>(
    transport: &Transport,
    origin: impl Fn() -> String,
    attempt: impl Fn() -> A,
) -> Result<T, Error> {
    transport.check_runtime()?;
    let mut deadline = Deadline::start(transport);
    let (mut attempts, mut previous) = (0, None);
    loop {
        attempts += 1;
        let limit = transport.attempt_timeout.min(deadline.remaining());
        let call = Timeout::new(attempt(), transport.timer.sleep(limit));
        let error = match (deadline.run(limit, call).await, previous) {
            (Ok(Ok(credentials)), _) => return Ok(credentials),
            (Ok(Err(error)), _) => error,
            // The deadline ended this attempt early, so the previous error is more useful.
            (Err(_), Some(previous)) if limit < transport.attempt_timeout => previous,
            (Err(_), _) => Failure::ResponseTimeout { limit }.into(),
        };
        // Jitter is added to `Retry-After`, because pods that were refused together must not retry together. It also gives
        // a pause if the endpoint asks for 0 s.
        let jitter = BACKOFF.full_jitter(attempts, random_fraction());
        let pause = error.retry_after().unwrap_or_default().saturating_add(jitter);
        if !error.is_retryable() || pause >= deadline.remaining() {
            return Err(error.into_error(origin(), attempts, deadline.elapsed()));
        }
        tracing::debug!(attempt = attempts, ?pause, cause = error.cause(), "attempt failed, retrying");
        previous = Some(error.without_retry_after());
        deadline.run(pause, transport.timer.sleep(pause)).await;
    }
}

/// The deadline of one fetch. It restarts if the process was frozen during a step (cgroup freezer, SIGSTOP, suspended
/// runtime), because a request must not fail just because the program was frozen.
struct Deadline<'a> {
    transport: &'a Transport,
    started_at: Duration,
    restarted_at: Duration,
    restarts: u32,
}

impl<'a> Deadline<'a> {
    fn start(transport: &'a Transport) -> Self {
        let now = transport.clock.now().monotonic;
        Self { transport, started_at: now, restarted_at: now, restarts: 0 }
    }

    fn elapsed(&self) -> Duration {
        self.since(self.started_at)
    }

    fn remaining(&self) -> Duration {
        self.transport.deadline.saturating_sub(self.since(self.restarted_at))
    }

    /// Runs a step that ends within `limit` by its own timer. Restarts the deadline if the step took much longer.
    async fn run<T>(&mut self, limit: Duration, step: impl Future<Output = T>) -> T {
        let started_at = self.transport.clock.now().monotonic;
        let output = step.await;
        if self.since(started_at) > limit.saturating_add(MAX_TIMER_DELAY) && self.restarts < MAX_RESTARTS {
            self.restarts += 1;
            self.restarted_at = self.transport.clock.now().monotonic;
        }
        output
    }

    fn since(&self, time: Duration) -> Duration {
        self.transport.clock.now().monotonic.saturating_sub(time)
    }
}
