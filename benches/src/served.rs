//! A server on its own thread and processor, with a measurement of its CPU time.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::measure::{pin, thread_cpu};

/// A running server. It ends with the process.
pub(crate) struct Served {
    pub(crate) addresses: Vec<SocketAddr>,
    /// The files that the server reads. They are deleted with the last handle.
    _files: Option<TempDir>,
    questions: UnboundedSender<mpsc::Sender<Duration>>,
}

/// Starts a server. `start` binds it and spawns it on a runtime with one thread, as the agent's.
pub(crate) fn serve<S, F>(start: S) -> Result<Served, Box<dyn std::error::Error>>
where
    S: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<Vec<SocketAddr>, Box<dyn std::error::Error>>>,
{
    let (questions, mut questions_received) = unbounded_channel::<mpsc::Sender<Duration>>();
    let (bound, addresses) = mpsc::channel();
    std::thread::spawn(move || {
        pin(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async move {
            let started = start().await.map_err(|error| error.to_string());
            let failed = started.is_err();
            if bound.send(started).is_err() || failed {
                return;
            }
            while let Some(reply) = questions_received.recv().await {
                let _ = reply.send(thread_cpu()); // fails only if the receiver was dropped
            }
            // There are no more questions. The server goes on.
            std::future::pending::<()>().await;
        });
    });
    let addresses = addresses.recv().map_err(|_| "a server did not start")??;
    Ok(Served { addresses, _files: None, questions })
}

impl Served {
    /// Adds the directory of its files.
    pub(crate) fn with_files(self, files: TempDir) -> Self {
        Self { _files: Some(files), ..self }
    }

    /// Returns the CPU time of the server's thread so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Box<dyn std::error::Error>> {
        let (sender, reply) = mpsc::channel();
        self.questions.send(sender)?;
        Ok(reply.recv()?)
    }
}
