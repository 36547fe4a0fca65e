//! The task that renews credentials ahead of their end.

use std::sync::Weak;
use std::time::Duration;

use super::Cell;
use super::gate::LOOK;

/// The task looks at the clock at least that often: timers stand still while a machine sleeps.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Renews until the cell is gone: it holds no reference while it sleeps, and the cell's end aborts it.
pub(super) async fn keep(cell: Weak<Cell>) {
    loop {
        let waits = cell.upgrade().map(|cell| (cell.timer.clone(), cell.reader.due_in(cell.reader.now())));
        let Some((timer, due_in)) = waits else { return };
        // At least that long: whoever answers with credentials that are about to end must not be asked without pause.
        timer.sleep(due_in.clamp(LOOK, LONGEST_SLEEP)).await;
        // The machine may have slept, or the clock been set: whatever the timer says, the clock decides.
        let renewal = cell.upgrade().and_then(|cell| Some(cell.fetch(cell.lead_if_due(cell.reader.now())?)));
        if let Some(renewal) = renewal {
            renewal.await;
        }
    }
}
