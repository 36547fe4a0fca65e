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
        // At least that long: whoever answers with credentials that are about to end must not be asked without pause.
        sleep.sleep(due_in.clamp(LOOK, LONGEST_SLEEP)).await;
        let renewal = cell.upgrade().and_then(|cell| {
            let now = cell.clock.now();
            // The machine may have slept, or the clock been set: whatever the timer says, the clock decides.
            let due = cell.due_in().is_zero();
            // None where somebody else fetches, or where a fetch failed a moment ago.
            let lead = if due { cell.slot.begin_ahead(now, MARGIN) } else { None };
            lead.map(|lead| cell.fetch(lead))
        });
        if let Some(renewal) = renewal {
            renewal.await;
        }
    }
}

impl Cell {
    /// How long it is until the credentials are to be renewed; none where there are no more that hold.
    fn due_in(&self) -> Duration {
        let now = self.clock.now();
        let due_in = self.slot.peek(now, MARGIN, |entry| entry.value().due_in(entry.expiry().left(now)));
        due_in.unwrap_or_default()
    }
}
