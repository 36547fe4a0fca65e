//! Tasks that are aborted when their owner is dropped.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

/// Holds at most one task, and aborts it when dropped.
#[derive(Debug, Default)]
pub(super) struct Task(Mutex<Option<AbortHandle>>);

impl Task {
    /// Starts `task` and aborts the previous task.
    pub(super) fn start(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        let task = runtime.spawn(task).abort_handle();
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(task);
        if let Some(before) = before {
            before.abort();
        }
    }

    /// Starts `task` unless a task is running.
    pub(super) fn start_unless_running<F>(&self, runtime: &Handle, task: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_none_or(AbortHandle::is_finished) {
            *running = Some(runtime.spawn(task()).abort_handle());
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(running) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            running.abort();
        }
    }
}
