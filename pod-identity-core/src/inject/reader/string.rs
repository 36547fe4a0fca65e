//! JSON strings: their ends and escapes.

/// A string as the text has it.
pub(super) struct Raw<'a> {
    /// What the quotes enclose.
    pub(super) content: &'a str,
    pub(super) has_escapes: bool,
    /// The offset behind the closing quote.
    pub(super) end: usize,
}

/// Finds the end of the string whose content begins at `start`, and checks its characters and escapes.
///
/// # Errors
/// The offset of the invalid byte, with the reason.
pub(super) fn scan(text: &str, start: usize) -> Result<Raw<'_>, (usize, &'static str)> {
    let bytes = text.as_bytes();
    let (mut at, mut has_escapes) = (start, false);
    loop {
        while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            let found = special(u64::from_le_bytes(*word));
            if found != 0 {
                at += found.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        match bytes.get(at) {
            Some(b'"') => return Ok(Raw { content: &text[start..at], has_escapes, end: at + 1 }),
            Some(b'\\') => {
                has_escapes = true;
                at += escape_length(&bytes[at..]).ok_or((at, "invalid escape in a string"))?;
            }
            Some(..b' ') => return Err((at, "unescaped control character in a string")),
            Some(_) => at += 1,
            None => return Err((at, "the string has no end")),
        }
    }
}

/// Marks the bytes of a word that are quotes, backslashes or control characters by their high bits. Bytes above a marked
/// one may be marked without cause.
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = ONES << 7;
    let is_below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let is = |byte: u8| is_below(word ^ (ONES * u64::from(byte)), 1);
    (is_below(word, b' ') | is(b'"') | is(b'\\')) & HIGH_BITS
}

/// The bytes of the escape at the start of `bytes`; `None` if it is invalid.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

/// Decodes the escapes of a string's content, which [`scan`] has checked. Returns `None` for a lone surrogate.
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
