//! The signing time in a request.

use std::time::SystemTime;

use http::header::DATE;
use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

use super::error::{SigV4Error, malformed};
use super::header::single;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// The date that the signature covers.
#[derive(Debug)]
pub(super) struct SigningTime {
    pub(super) time: SystemTime,
    /// The signed form, `yyyymmddThhmmssZ`.
    pub(super) text: String,
    /// Whether the date comes from `Date`, because `x-amz-date` is absent.
    pub(super) from_date_header: bool,
}

impl SigningTime {
    /// Reads `x-amz-date`, or `Date` in the same form or in the form of HTTP (RFC 9110, section 5.6.7).
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, SigV4Error> {
        if let Some(value) = single(headers, &X_AMZ_DATE)? {
            let time = value.to_str().ok().and_then(basic);
            let time = time.ok_or_else(|| malformed("x-amz-date is not of the form 20150830T123600Z"))?;
            return Ok(Self::new(time, false));
        }
        let value = single(headers, &DATE)?
            .ok_or_else(|| malformed("the request has no date: send and sign x-amz-date"))?;
        let text = value.to_str().unwrap_or_default();
        let time = basic(text).or_else(|| rfc2822::DateTimeParser::new().parse_timestamp(text).ok());
        let time =
            time.ok_or_else(|| malformed("the Date header is not a date: send and sign x-amz-date"))?;
        Ok(Self::new(time, true))
    }

    fn new(time: Timestamp, from_date_header: bool) -> Self {
        Self { time: time.into(), text: time.strftime("%Y%m%dT%H%M%SZ").to_string(), from_date_header }
    }

    /// `yyyymmdd`.
    pub(super) fn day(&self) -> &str {
        self.text.split('T').next().unwrap_or_default()
    }
}

/// Parses the basic form of ISO 8601 in UTC with seconds, and no other form: `20150830T123600Z`.
fn basic(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let form = bytes.len() == 16
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 => *b == b'T',
            15 => *b == b'Z',
            _ => b.is_ascii_digit(),
        });
    if !form {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<i8>().ok();
    let year = text[0..4].parse().ok()?;
    let date_time = DateTime::new(
        year,
        number(4..6)?,
        number(6..8)?,
        number(9..11)?,
        number(11..13)?,
        number(13..15)?,
        0,
    );
    TimeZone::UTC.to_timestamp(date_time.ok()?).ok()
}
