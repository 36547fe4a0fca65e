//! The timers of requests and renewals.

use std::time::Duration;

use aws_smithy_async::future::timeout::{TimedOutError, Timeout};
use aws_smithy_async::rt::sleep::{AsyncSleep as _, SharedAsyncSleep, Sleep, TokioSleep};
use tokio::runtime::Handle;

/// A sleep implementation that may need a tokio runtime.
#[derive(Debug, Clone)]
pub(crate) struct Timer {
    sleep: SharedAsyncSleep,
    needs_tokio: bool,
}

impl Timer {
    /// Uses tokio's timers.
    pub(crate) fn tokio() -> Self {
        Self { sleep: SharedAsyncSleep::new(TokioSleep::new()), needs_tokio: true }
    }

    /// Uses the program's own sleep implementation. It must work wherever requests are made.
    pub(crate) fn custom(sleep: SharedAsyncSleep) -> Self {
        Self { sleep, needs_tokio: false }
    }

    /// Returns whether the timer works here. Tokio's timers panic outside a runtime.
    pub(crate) fn is_usable(&self) -> bool {
        !self.needs_tokio || Handle::try_current().is_ok()
    }

    /// Sleeps. The timer must be [usable](Self::is_usable).
    pub(crate) fn sleep(&self, time: Duration) -> Sleep {
        self.sleep.sleep(time)
    }

    /// Runs `call` for at most `limit`. Runs it without a limit if the timer is not [usable](Self::is_usable).
    pub(crate) async fn timeout<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, TimedOutError> {
        if !self.is_usable() {
            return Ok(call.await);
        }
        Timeout::new(call, self.sleep(limit)).await
    }

    /// Returns the sleep implementation, for the SDK.
    pub(crate) fn shared(&self) -> SharedAsyncSleep {
        self.sleep.clone()
    }
}
