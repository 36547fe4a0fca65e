//! Sleeping, where there is something to sleep by.

use std::time::Duration;

use aws_smithy_async::future::timeout::{TimedOutError, Timeout};
use aws_smithy_async::rt::sleep::{AsyncSleep as _, SharedAsyncSleep, Sleep, TokioSleep};
use tokio::runtime::Handle;

/// A sleep, and whether it needs a tokio runtime.
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

    /// A sleep that was given: it is taken to work wherever requests are made.
    pub(crate) fn given(sleep: SharedAsyncSleep) -> Self {
        Self { sleep, needs_tokio: false }
    }

    /// Whether it can be used here: outside a runtime tokio's timers panic.
    pub(crate) fn is_usable(&self) -> bool {
        !self.needs_tokio || Handle::try_current().is_ok()
    }

    /// Sleeps, where it [can be used](Self::is_usable).
    pub(crate) fn sleep(&self, time: Duration) -> Sleep {
        self.sleep.sleep(time)
    }

    /// Runs `call` for that long at most; without an end where it [cannot be used](Self::is_usable).
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

    /// For those who sleep by themselves, where it [can be used](Self::is_usable).
    pub(crate) fn shared(&self) -> SharedAsyncSleep {
        self.sleep.clone()
    }
}
