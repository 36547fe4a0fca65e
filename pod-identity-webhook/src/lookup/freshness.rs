//! Whether the result of a lookup is current.

use super::failure::ReadFailure;

/// Whether a result is current at the time at which the review arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// It is: every source that decides was read after that time, or a file gives the service account Pod Identity.
    Fresh,
    /// The service account could not be read in time. The result is the watch's, which works and lags by moments.
    Recent(ReadFailure),
    /// A source could not be read in time. The result is an earlier one: the watch's before it failed, or the last usable
    /// content of a file or of the ConfigMap.
    Stale(ReadFailure),
    /// A source could not be read in time, and was never read before.
    Unknown(ReadFailure),
}

impl Freshness {
    /// Combines two sources: the less fresh one decides.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (unknown @ Self::Unknown(_), _) | (_, unknown @ Self::Unknown(_)) => unknown,
            (stale @ Self::Stale(_), _) | (_, stale @ Self::Stale(_)) => stale,
            (recent @ Self::Recent(_), _) | (_, recent @ Self::Recent(_)) => recent,
            (Self::Fresh, Self::Fresh) => Self::Fresh,
        }
    }

    /// Returns why a source could not be read in time.
    pub fn failure(&self) -> Option<&ReadFailure> {
        match self {
            Self::Fresh => None,
            Self::Recent(failure) | Self::Stale(failure) | Self::Unknown(failure) => Some(failure),
        }
    }
}
