//! Retired slots: slots that have left their map.

use std::time::Duration;

use super::{PAUSES, Slot, State};
use crate::error::UpstreamError;
use crate::time::{Expires, Now};

impl<V: Expires, E: UpstreamError> Slot<V, E> {
    pub(in crate::cache) fn is_retired(&self) -> bool {
        self.lock().retired
    }

    pub(in crate::cache) fn is_in_flight(&self) -> bool {
        self.lock().flight.is_some()
    }

    /// Returns whether the slot has a flight, or an error that further requests get.
    #[cfg(feature = "verify")]
    pub(in crate::cache) fn is_in_flight_or_refused(&self, now: Now) -> bool {
        let state = self.lock();
        state.flight.is_some() || state.refusal.as_ref().is_some_and(|(_, until)| now.monotonic < *until)
    }

    /// Empties a slot and keeps it empty, because it leaves its map. Known tokens that refer to it find no entry. A
    /// flight goes on for its waiters.
    pub(in crate::cache) fn retire(&self) {
        self.retire_under(&mut self.lock());
    }

    /// Retires the slot unless it has a flight. Returns whether it did.
    pub(in crate::cache) fn retire_unless_in_flight(&self) -> bool {
        let mut state = self.lock();
        let retires = state.flight.is_none();
        if retires {
            self.retire_under(&mut state);
        }
        retires
    }

    /// Retires the slot if it has no flight, no credentials and no recent refusal. Returns whether it did.
    pub(in crate::cache) fn retire_if_idle(&self, now: Now, margin: Duration) -> bool {
        let mut state = self.lock();
        let refused =
            state.refusal.as_ref().is_some_and(|(_, until)| now.monotonic < *until + PAUSES.longest());
        let retires = state.flight.is_none() && !refused && self.read(now, margin).is_none();
        if retires {
            self.retire_under(&mut state);
        }
        retires
    }

    fn retire_under(&self, state: &mut State<V, E>) {
        state.retired = true;
        self.entry.store(None);
        #[cfg(feature = "verify")]
        self.newest.store(None);
    }
}
