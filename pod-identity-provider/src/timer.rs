//! Timers, where there are any.

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
    /// Tokio's timers.
    pub(crate) fn tokio() -> Self {
        Self { sleep: SharedAsyncSleep::new(TokioSleep::new()), needs_tokio: true }
    }

    /// A sleep implementation that the program gave. It must work wherever requests are made.
    pub(crate) fn given(sleep: SharedAsyncSleep) -> Self {
        Self { sleep, needs_tokio: false }
    }

    /// Whether the timer works here: outside a runtime tokio's timers panic.
    pub(crate) fn is_usable(&self) -> bool {
        !self.needs_tokio || Handle::try_current().is_ok()
    }

    /// Sleeps. The timer must be [usable](Self::is_usable).
    pub(crate) fn sleep(&self, time: Duration) -> Sleep {
        self.sleep.sleep(time)
    }

    /// Runs `call` for at most `limit`, or without a limit where the timer is not [usable](Self::is_usable).
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, TimedOutError> {
        if !self.is_usable() {
            return Ok(call.await);
        }
        Timeout::new(call, self.sleep(limit)).await
    }

    /// The sleep implementation, for the SDK.
    pub(crate) fn shared(&self) -> SharedAsyncSleep {
        self.sleep.clone()
    }
}
