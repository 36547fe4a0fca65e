//! JSON strings: their ends and escapes.

/// Returns whether a text has control characters. Most reviews have none, since the API server writes no whitespace between
/// values. Their strings are then not searched for control characters. The loop has no early end, so it is vectorized.
pub(super) fn has_control_characters(text: &str) -> bool {
    text.bytes().fold(u8::MAX, u8::min) < b' '
}

/// Returns the offset of the next quote or backslash, or the length of the text.
#[inline(always)]
pub(super) fn find_quote_or_backslash(bytes: &[u8], start: usize) -> usize {
    let mut rest = bytes.get(start..).unwrap_or_default();
    while let Some((word, tail)) = rest.split_first_chunk() {
        let found = mark_quotes_and_backslashes(u64::from_le_bytes(*word));
        if found != 0 {
            return bytes.len() - rest.len() + found.trailing_zeros() as usize / 8;
        }
        rest = tail;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\');
    bytes.len() - rest.len() + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// Marks the bytes of a word that are quotes or backslashes by their high bits. Bytes above a marked one may be marked
/// without cause.
#[inline(always)]
fn mark_quotes_and_backslashes(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word;
    (zero_bytes(word ^ (ONES * 0x22)) | zero_bytes(word ^ (ONES * 0x5c))) & (ONES << 7)
}

/// Finds the closing quote of a string, and checks its characters and escapes. Its content begins at `start`, and the next
/// quote or backslash is at `next`. Returns the offset of the closing quote, and whether the string has escapes.
///
/// # Errors
/// The offset of the invalid byte, with the reason.
pub(super) fn end(
    bytes: &[u8],
    start: usize,
    mut next: usize,
    may_have_controls: bool,
) -> Result<(usize, bool), (usize, &'static str)> {
    let (mut at, mut has_escapes) = (start, false);
    loop {
        if may_have_controls && let Some(index) = bytes[at..next].iter().position(|byte| *byte < b' ') {
            return Err((at + index, "unescaped control character in a string"));
        }
        match bytes.get(next) {
            Some(b'"') => return Ok((next, has_escapes)),
            Some(_) => {
                has_escapes = true;
                at = next + escape_length(&bytes[next..]).ok_or((next, "invalid escape in a string"))?;
                next = find_quote_or_backslash(bytes, at);
            }
            None => return Err((next, "the string has no end")),
        }
    }
}

/// The bytes of the escape at the start of `bytes`; `None` if it is invalid.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

/// Decodes the escapes of a string's content, which [`end`] has checked. Returns `None` for a lone surrogate.
pub(super) fn decode(content: &str) -> Option<String> {
    let mut decoded = String::with_capacity(content.len());
    let mut rest = content;
    while let Some((before, escape)) = rest.split_once('\\') {
        decoded.push_str(before);
        let (character, after) = match escape.as_bytes().first()? {
            b'b' => ('\u{8}', &escape[1..]),
            b'f' => ('\u{c}', &escape[1..]),
            b'n' => ('\n', &escape[1..]),
            b'r' => ('\r', &escape[1..]),
            b't' => ('\t', &escape[1..]),
            b'u' => unicode(&escape[1..])?,
            _ => (escape.chars().next()?, &escape[1..]),
        };
        decoded.push(character);
        rest = after;
    }
    decoded.push_str(rest);
    Some(decoded)
}

/// The character of an escape behind `\u`, which takes a second escape if it is beyond the basic plane.
fn unicode(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| u16::from_str_radix(text.get(..4)?, 16).ok();
    let first = unit(text)?;
    let second = text[4..].strip_prefix("\\u").and_then(unit);
    let mut decoded = char::decode_utf16([first].into_iter().chain(second));
    let character = decoded.next()?.ok()?;
    Some((character, &text[if character.len_utf16() == 1 { 4 } else { 10 }..]))
}
