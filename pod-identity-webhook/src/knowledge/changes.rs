//! What changed of what is known, for who looks at pods that run already.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use pod_identity_core::identity::{Namespace, ServiceAccount};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

/// Changes that wait to be looked at. One beyond them is not told by itself: [`Change::Everything`] is.
const WAITING: usize = 1024;

/// What may give another role from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// What one account says, or a file of it.
    Account(Namespace, ServiceAccount),
    /// A file that changed in many places, all accounts listed anew, or more than could wait.
    Everything,
}

/// Says what changed. Nobody waits for who listens, and mostly nobody does.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes(Arc<OnceLock<Listening>>);

#[derive(Debug)]
struct Listening {
    sender: mpsc::Sender<Change>,
    lost: Arc<Notify>,
}

/// Hears what changed.
#[derive(Debug)]
pub struct ChangeReceiver {
    receiver: mpsc::Receiver<Change>,
    /// Says that a change could not wait. It is kept until somebody hears it.
    lost: Arc<Notify>,
}

impl ChangeReceiver {
    /// The next change; `None` when nobody is left to tell of any.
    pub async fn recv(&mut self) -> Option<Change> {
        tokio::select! {
            biased;
            () = self.lost.notified() => Some(Change::Everything),
            change = self.receiver.recv() => change,
        }
    }

    /// The next change that waits already.
    pub fn try_recv(&mut self) -> Option<Change> {
        match self.lost.notified().now_or_never() {
            Some(()) => Some(Change::Everything),
            None => self.receiver.try_recv().ok(),
        }
    }
}

impl Changes {
    pub(super) fn listen(&self) -> ChangeReceiver {
        let (sender, receiver) = mpsc::channel(WAITING);
        let lost: Arc<Notify> = Arc::default();
        // A second listener hears that nobody will say anything.
        drop(self.0.set(Listening { sender, lost: lost.clone() }));
        ChangeReceiver { receiver, lost }
    }

    pub(super) fn say(&self, change: impl FnOnce() -> Change) {
        if let Some(Listening { sender, lost }) = self.0.get()
            && let Err(TrySendError::Full(_)) = sender.try_send(change())
        {
            lost.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_that_could_not_wait_is_heard_as_one_of_everything() {
        let changes = Changes::default();
        changes.say(|| unreachable!("nobody listens"));
        let mut heard = changes.listen();
        let account = || Change::Account("shop".parse().unwrap(), "cart".parse().unwrap());
        for _ in 0..WAITING {
            changes.say(account);
        }
        assert_eq!(heard.try_recv(), Some(account()));
        changes.say(account);
        changes.say(account);
        changes.say(account);
        assert_eq!(heard.recv().await, Some(Change::Everything));
        for _ in 0..WAITING {
            assert_eq!(heard.recv().await, Some(account()));
        }
        assert_eq!(heard.try_recv(), None);
        drop(changes);
        assert_eq!(heard.recv().await, None);
    }

    #[tokio::test]
    async fn a_second_listener_hears_that_nobody_will_say_anything() {
        let changes = Changes::default();
        let _first = changes.listen();
        assert_eq!(changes.listen().recv().await, None);
    }
}
