//! Checks and skips values of any type and depth.

use super::string;

/// The offset behind a value; or the offset of the invalid byte, with the reason.
pub(super) type Skipped = Result<usize, (usize, &'static str)>;

/// Skips a value. `open` is memory for the arrays and objects around a position: whether each is an object.
pub(super) fn value(bytes: &[u8], start: usize, open: &mut Vec<bool>, may_have_controls: bool) -> Skipped {
    open.clear();
    let mut at = whitespace(bytes, start);
    loop {
        match bytes.get(at) {
            Some(b'{') => {
                at = whitespace(bytes, at + 1);
                if bytes.get(at) != Some(&b'}') {
                    open.push(true);
                    at = key(bytes, at, may_have_controls)?;
                    continue;
                }
                at += 1;
            }
            Some(b'[') => {
                at = whitespace(bytes, at + 1);
                if bytes.get(at) != Some(&b']') {
                    open.push(false);
                    continue;
                }
                at += 1;
            }
            _ => at = scalar(bytes, at, may_have_controls)?,
        }
        // The ends of arrays and objects behind the value.
        loop {
            let Some(&is_object) = open.last() else { return Ok(at) };
            at = whitespace(bytes, at);
            match bytes.get(at) {
                Some(b',') => {
                    at = whitespace(bytes, at + 1);
                    if is_object {
                        at = key(bytes, at, may_have_controls)?;
                    }
                    break;
                }
                Some(b'}') if is_object => at += 1,
                Some(b']') if !is_object => at += 1,
                _ if is_object => return Err((at, "expected `,` or `}`")),
                _ => return Err((at, "expected `,` or `]`")),
            }
            open.pop();
        }
    }
}

/// Skips whitespace.
#[inline(always)]
pub(super) fn whitespace(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(..=b' ') => behind_whitespace(bytes, at),
        _ => at,
    }
}

#[cold]
fn behind_whitespace(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Skips a key, its colon, and the whitespace before the value.
#[inline(always)]
fn key(bytes: &[u8], at: usize, may_have_controls: bool) -> Skipped {
    if bytes.get(at) != Some(&b'"') {
        return Err((at, "expected a key"));
    }
    let at = whitespace(bytes, string(bytes, at, may_have_controls)?);
    if bytes.get(at) != Some(&b':') {
        return Err((at, "expected `:`"));
    }
    Ok(whitespace(bytes, at + 1))
}

/// Skips a string, whose opening quote is at `at`.
#[inline(always)]
fn string(bytes: &[u8], at: usize, may_have_controls: bool) -> Skipped {
    let next = string::find_quote_or_backslash(bytes, at + 1);
    if bytes.get(next) == Some(&b'"') && !may_have_controls {
        return Ok(next + 1);
    }
    string::end(bytes, at + 1, next, may_have_controls).map(|(end, _)| end + 1)
}

/// Skips a string, number or literal.
#[inline(always)]
fn scalar(bytes: &[u8], at: usize, may_have_controls: bool) -> Skipped {
    match bytes.get(at) {
        Some(b'"') => string(bytes, at, may_have_controls),
        Some(b'-' | b'0'..=b'9') => number(bytes, at),
        Some(b't') => literal(bytes, at, "true"),
        Some(b'f') => literal(bytes, at, "false"),
        Some(b'n') => literal(bytes, at, "null"),
        _ => Err((at, "expected a value")),
    }
}

pub(super) fn literal(bytes: &[u8], at: usize, name: &str) -> Skipped {
    if bytes[at..].starts_with(name.as_bytes()) { Ok(at + name.len()) } else { Err((at, "expected a value")) }
}

fn number(bytes: &[u8], mut at: usize) -> Skipped {
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    at += usize::from(is(at, b"-"));
    at = if is(at, b"0") { at + 1 } else { digits(bytes, at)? };
    if is(at, b".") {
        at = digits(bytes, at + 1)?;
    }
    if is(at, b"eE") {
        at += 1;
        at = digits(bytes, at + usize::from(is(at, b"+-")))?;
    }
    Ok(at)
}

/// Skips one digit or more.
fn digits(bytes: &[u8], mut at: usize) -> Skipped {
    if !bytes.get(at).is_some_and(u8::is_ascii_digit) {
        return Err((at, "expected a digit"));
    }
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    Ok(at)
}
