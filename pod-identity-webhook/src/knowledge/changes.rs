//! What changed of what is known, for who looks at pods that run already.

use std::sync::{Arc, OnceLock};

use pod_identity_core::identity::{Namespace, ServiceAccount};
use tokio::sync::mpsc;

/// Changes that wait to be looked at. Beyond them one is lost, and the next reading of all pods makes up for it.
const WAITING: usize = 1024;

/// What may give another role from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// What one account says.
    Account(Namespace, ServiceAccount),
    /// A file.
    Everything,
}

/// Says what changed. Nobody waits for who listens, and mostly nobody does.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes(Arc<OnceLock<mpsc::Sender<Change>>>);

impl Changes {
    pub(super) fn listen(&self) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(WAITING);
        // A second listener hears that nobody will say anything.
        drop(self.0.set(sender));
        receiver
    }

    pub(super) fn say(&self, change: impl FnOnce() -> Change) {
        if let Some(listener) = self.0.get() {
            drop(listener.try_send(change()));
        }
    }
}
