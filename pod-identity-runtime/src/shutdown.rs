//! One signal asks for an orderly end, a second one ends at once.

use std::time::Duration;

use tokio::sync::watch;

/// How long a drain may take: below the 30 s that Kubernetes grants a pod by default
/// (`terminationGracePeriodSeconds`), with room for the process to end.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// The end of a process, as its tasks see it. Clones see the same end.
#[derive(Debug, Clone)]
pub struct Shutdown(Option<watch::Receiver<bool>>);

/// Whoever holds this can end what was started with its [`Shutdown`]; dropping it does so too.
#[derive(Debug)]
pub struct Ender(watch::Sender<bool>);

impl Ender {
    /// Asks for the end.
    pub fn end(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// An end that the program itself asks for.
    pub fn manual() -> (Ender, Self) {
        let (sender, receiver) = watch::channel(false);
        (Ender(sender), Self(Some(receiver)))
    }

    /// No end: for what is stopped by the end of its task.
    pub fn never() -> Self {
        Self(None)
    }

    /// A shutdown that SIGTERM, SIGINT or SIGHUP asks for. A second signal exits with status 130 at once.
    ///
    /// # Errors
    /// Where the process cannot listen for signals.
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
                tracing::info!(signal = name, "draining: what is under way is finished");
                ender.end();
            }
        });
        Ok(shutdown)
    }

    /// Whether the end has been asked for.
    pub fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| *asked.borrow() || asked.has_changed().is_err())
    }

    /// Waits for the end to be asked for.
    pub async fn asked(&mut self) {
        match &mut self.0 {
            // An error means that the ender is gone: then too it is time to end.
            Some(asked) => drop(asked.wait_for(|asked| *asked).await),
            None => std::future::pending().await,
        }
    }
}
