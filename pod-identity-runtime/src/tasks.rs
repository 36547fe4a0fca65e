//! Background tasks that end the process when they end.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::shutdown::{Ender, Shutdown};

/// The background tasks of one program. A task that panics or ends unexpectedly is reported to [`Failures`]. The
/// program then ends, because it would not work correctly without the task.
///
/// Clones share the tasks. They are cancelled when the last clone is dropped.
///
/// ```
/// use pod_identity_runtime::shutdown::Shutdown;
/// use pod_identity_runtime::tasks;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (tasks, mut failures) = tasks::supervise();
/// tasks.spawn("renewal", Shutdown::never(), async {});
/// assert_eq!(failures.next().await.to_string(), "background task renewal ended unexpectedly: \
///     this is a bug of the program, please report it");
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Tasks {
    set: Arc<Mutex<JoinSet<()>>>,
    failures: mpsc::UnboundedSender<TaskFailure>,
}

/// Reports the tasks that failed.
#[derive(Debug)]
pub struct Failures(mpsc::UnboundedReceiver<TaskFailure>);

/// A background task that panicked or ended unexpectedly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("background task {name} {}: this is a bug of the program, please report it", .end.as_str())]
pub struct TaskFailure {
    name: &'static str,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Returned,
    Panicked,
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Returned => "ended unexpectedly",
            Self::Panicked => "panicked",
        }
    }
}

/// Makes an empty set of tasks, and the receiver of their failures.
pub fn supervise() -> (Tasks, Failures) {
    let (failures, receiver) = mpsc::unbounded_channel();
    (Tasks { set: Arc::default(), failures }, Failures(receiver))
}

impl Tasks {
    /// Starts a task that runs until `shutdown`. An earlier end is a failure.
    pub fn spawn(
        &self,
        name: &'static str,
        shutdown: Shutdown,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.start(name, Some(shutdown), task);
    }

    /// Starts a task that may end at any time. Only a panic is a failure.
    pub fn spawn_finite(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.start(name, None, task);
    }

    /// Waits until every task has ended, for at most `limit`, and then cancels the others. Returns whether all ended
    /// in time.
    pub async fn join(&self, limit: Duration) -> bool {
        let mut set = std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while set.join_next().await.is_some() {} };
        tokio::time::timeout(limit, all).await.is_ok()
    }

    /// Cancels every task.
    pub fn cancel(&self) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    fn start(
        &self,
        name: &'static str,
        shutdown: Option<Shutdown>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let failures = self.failures.clone();
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        while set.try_join_next().is_some() {} // remove ended tasks
        set.spawn(async move {
            let report = ReportPanic { name, failures: &failures };
            task.await;
            drop(report);
            if shutdown.is_some_and(|shutdown| !shutdown.is_asked()) {
                let _ = failures.send(TaskFailure { name, end: End::Returned });
            }
        });
    }
}

impl Failures {
    /// Waits for `serving`. The shutdown or the first failed task calls `stop`, which ends it.
    ///
    /// # Errors
    /// [`TaskFailure`] if a task failed.
    pub async fn serve_until(
        mut self,
        mut shutdown: Shutdown,
        stop: Ender,
        serving: impl Future<Output = ()>,
    ) -> Result<(), TaskFailure> {
        let mut serving = pin!(serving);
        let result = tokio::select! {
            () = &mut serving => return Ok(()),
            () = shutdown.asked() => Ok(()),
            failure = self.next() => Err(failure),
        };
        stop.end();
        serving.await;
        result
    }

    /// Waits for the next failure, and logs it.
    pub async fn next(&mut self) -> TaskFailure {
        match self.0.recv().await {
            Some(failure) => {
                tracing::error!(task = failure.name, "{failure}");
                failure
            }
            // Every clone of `Tasks` was dropped.
            None => std::future::pending().await,
        }
    }
}

struct ReportPanic<'a> {
    name: &'static str,
    failures: &'a mpsc::UnboundedSender<TaskFailure>,
}

impl Drop for ReportPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.failures.send(TaskFailure { name: self.name, end: End::Panicked });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reports_a_panic_and_an_unexpected_end() {
        let (tasks, mut failures) = supervise();
        tasks.spawn("renewal", Shutdown::never(), async { panic!("the task panics for this test") });
        assert_eq!(failures.next().await, TaskFailure { name: "renewal", end: End::Panicked });
        tasks.spawn("sweep", Shutdown::never(), async {});
        assert_eq!(failures.next().await, TaskFailure { name: "sweep", end: End::Returned });
        tasks.spawn_finite("identify", async { panic!("the task panics for this test") });
        assert_eq!(failures.next().await, TaskFailure { name: "identify", end: End::Panicked });
    }

    #[tokio::test]
    async fn ignores_end_after_shutdown_end_of_finite_task_and_cancellation() {
        let (tasks, mut failures) = supervise();
        let (ender, shutdown) = Shutdown::manual();
        tasks.spawn_finite("identify", async {});
        tasks.spawn("follow", shutdown.clone(), {
            let mut shutdown = shutdown.clone();
            async move { shutdown.asked().await }
        });
        tasks.spawn("held", Shutdown::never(), std::future::pending());
        ender.end();
        tokio::task::yield_now().await;
        drop(tasks);
        tokio::task::yield_now().await;
        assert!(failures.0.try_recv().is_err());
    }
}
