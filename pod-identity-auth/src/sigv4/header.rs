//! Headers that may occur once.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::{SigV4Error, malformed};

/// Returns the value of a header, or an error if the header occurs twice.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, SigV4Error> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(malformed(format!("the header {name} occurs twice, want one")));
    }
    Ok(first)
}
