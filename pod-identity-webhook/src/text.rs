//! Formats times.

use std::time::SystemTime;

/// Formats a time as RFC 3339 in UTC, with whole seconds.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().strftime("%FT%TZ").to_string()
}
