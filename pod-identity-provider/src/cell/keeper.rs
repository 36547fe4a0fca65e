//! The task that renews credentials ahead of their end.

use std::sync::Weak;
use std::time::Duration;

use aws_smithy_async::rt::sleep::AsyncSleep as _;

use super::{Cell, LOOK, MARGIN};

/// The task looks at the clock at least that often: timers stand still while a machine sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Renews until the cell is gone: it holds no reference while it sleeps, and the cell's end aborts it.
pub(super) async fn keep(cell: Weak<Cell>) {
    loop {
        let Some((sleep, due_in)) = cell.upgrade().map(|cell| (cell.sleep.clone(), cell.due_in())) else {
            return;
        };
        sleep.sleep(due_in).await;
        let renewal = cell.upgrade().and_then(|cell| {
            let now = cell.clock.now();
            // The machine may have slept, or the clock been set: whatever the timer says, the clock decides.
            let due = cell.due_in().is_zero();
            let lead = if due { cell.slot.begin_ahead(now, MARGIN) } else { None };
            lead.map(|lead| cell.fetch(lead))
        });
        match renewal {
            Some(renewal) => renewal.await,
            // Somebody else fetches, or a fetch has just failed: the slot says for how long nobody tries again.
            None => sleep.sleep(LOOK).await,
        }
    }
}

impl Cell {
    /// How long it is until the credentials are to be renewed; none where there are no more that hold.
    fn due_in(&self) -> Duration {
        let now = self.clock.now();
        let due_in = self.slot.peek(now, MARGIN, |entry| entry.value().due_in(entry.expiry().left(now)));
        due_in.unwrap_or_default().min(LONGEST_SLEEP)
    }
}
