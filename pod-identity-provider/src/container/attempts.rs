//! Retries within one deadline.

use std::time::Duration;

use aws_smithy_async::future::timeout::Timeout;
use pod_identity_core::backoff::{Backoff, random_fraction};

use super::fault::Fault;
use crate::error::{Error, Failure};
use crate::transport::Transport;

/// The pauses between attempts. An agent that restarts is back after about a second.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// The longest delay of a timer in a process that runs.
const LATE: Duration = Duration::from_secs(1);
/// How often a fetch gets a new deadline. A process with too little CPU for its timers looks like one that is frozen again
/// and again, and must not retry for ever.
const THAWS: u32 = 3;

/// Repeats `attempt` until it returns credentials or a final error, or no time is left for another attempt.
pub(super) async fn within_deadline<T, A: Future<Output = Result<T, Fault>>>(
    transport: &Transport,
    origin: impl Fn() -> String,
    attempt: impl Fn() -> A,
) -> Result<T, Error> {
    transport.check_runtime()?;
    let mut time = Allowance::begin(transport);
    let (mut attempts, mut before) = (0, None);
    loop {
        attempts += 1;
        let limit = transport.attempt_timeout.min(time.left());
        let call = Timeout::new(attempt(), transport.timer.sleep(limit));
        let fault = match (time.step(limit, call).await, before) {
            (Ok(Ok(credentials)), _) => return Ok(credentials),
            (Ok(Err(fault)), _) => fault,
            // An attempt that the deadline cut short says less than the one before it.
            (Err(_), Some(before)) if limit < transport.attempt_timeout => before,
            (Err(_), _) => Failure::ResponseTimeout { limit }.into(),
        };
        // The jitter is added to the pause that the endpoint asks for: pods that it refused together must not return
        // together, nor without any pause where it asks for 0 s.
        let jitter = PAUSES.full_jitter(attempts, random_fraction());
        let pause = fault.retry_after().unwrap_or_default().saturating_add(jitter);
        if !fault.is_retryable() || pause >= time.left() {
            return Err(fault.into_error(origin(), attempts, time.took()));
        }
        tracing::debug!(attempt = attempts, ?pause, cause = fault.cause(), "attempt failed, retrying");
        before = Some(fault.waited_for());
        time.step(pause, transport.timer.sleep(pause)).await;
    }
}

/// The time of one fetch. It starts again after a step in which the process was frozen (by its cgroup's freezer, a
/// SIGSTOP, a suspended runtime): a request of a program that wakes up must not fail for the time of its sleep.
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

    /// Runs a step that a timer ends after `limit`.
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
