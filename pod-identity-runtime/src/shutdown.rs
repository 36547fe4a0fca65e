//! Shutdown of a process: the first signal requests it, a second signal ends the process at once.

use std::time::Duration;

use tokio::sync::watch;

/// Maximum time of a drain. Kubernetes grants a pod 30 s by default (`terminationGracePeriodSeconds`), so there is
/// time left for the process to end.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// The shutdown of a process, for its tasks. Clones share one shutdown.
#[derive(Debug, Clone)]
pub struct Shutdown(Option<watch::Receiver<bool>>);

/// Requests the shutdown of a [`Shutdown`]. Dropping it does so, too.
#[derive(Debug)]
pub struct Ender(watch::Sender<bool>);

impl Ender {
    /// Requests the shutdown.
    pub fn end(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns a shutdown that the program requests itself.
    pub fn manual() -> (Ender, Self) {
        let (sender, receiver) = watch::channel(false);
        (Ender(sender), Self(Some(receiver)))
    }

    /// Returns a shutdown that is never requested, for tasks that are aborted.
    pub fn never() -> Self {
        Self(None)
    }

    /// Returns a shutdown that SIGTERM, SIGINT or SIGHUP requests. A second signal exits with status 130 at once.
    ///
    /// # Errors
    /// If the process cannot listen for signals.
    pub fn on_signal() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (ender, shutdown) = Self::manual();
        tokio::spawn(async move {
            for asked_before in [false, true] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    _ = hangup.recv() => "SIGHUP",
                };
                if asked_before {
                    tracing::warn!(signal = name, "second signal: ending at once");
                    std::process::exit(130);
                }
                tracing::info!(signal = name, "shutdown requested; draining");
                ender.end();
            }
        });
        Ok(shutdown)
    }

    /// Returns whether the shutdown was requested.
    pub fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| *asked.borrow() || asked.has_changed().is_err())
    }

    /// Waits for the shutdown request.
    pub async fn asked(&mut self) {
        match &mut self.0 {
            // An error means that the `Ender` was dropped, which requests the shutdown, too.
            Some(asked) => drop(asked.wait_for(|asked| *asked).await),
            None => std::future::pending().await,
        }
    }
}
