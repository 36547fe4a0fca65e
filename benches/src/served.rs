//! A server on a thread and a processor of its own, whose CPU time can be asked for.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::measure::{pin, thread_cpu};

/// A running server. It ends with the process.
pub(crate) struct Served {
    pub(crate) addresses: Vec<SocketAddr>,
    /// The files that it reads: they go when nobody measures it any more.
    _files: Option<TempDir>,
    questions: UnboundedSender<mpsc::Sender<Duration>>,
}

/// Starts a server: `start` binds and spawns it on a runtime of one thread, as the agent's own.
pub(crate) fn serve<S, F>(start: S) -> Result<Served, Box<dyn std::error::Error>>
where
    S: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<Vec<SocketAddr>, Box<dyn std::error::Error>>>,
{
    let (questions, mut asked) = unbounded_channel::<mpsc::Sender<Duration>>();
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
            while let Some(answer) = asked.recv().await {
                let _ = answer.send(thread_cpu()); // whoever asked has gone with the process
            }
            // Nobody will ask any more; the server goes on.
            std::future::pending::<()>().await;
        });
    });
    let addresses = addresses.recv().map_err(|_| "a server did not start")??;
    Ok(Served { addresses, _files: None, questions })
}

impl Served {
    /// The same, with the directory of its files.
    pub(crate) fn with_files(self, files: TempDir) -> Self {
        Self { _files: Some(files), ..self }
    }

    /// The CPU time of the server's thread so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Box<dyn std::error::Error>> {
        let (sender, answer) = mpsc::channel();
        self.questions.send(sender)?;
        Ok(answer.recv()?)
    }
}
