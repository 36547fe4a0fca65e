//! Times in texts.

use std::time::SystemTime;

/// A time in RFC 3339, in UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().strftime("%FT%TZ").to_string()
}
