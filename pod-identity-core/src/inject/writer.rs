//! JSON strings, written into a text.

/// Appends a string with its quotes.
pub(super) fn push_string(json: &mut String, text: &str) {
    json.push('"');
    if is_plain(text) {
        json.push_str(text);
        json.push('"');
        return;
    }
    let mut rest = text;
    while let Some(index) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..b' ')) {
        json.push_str(&rest[..index]);
        match rest.as_bytes()[index] {
            byte @ (b'"' | b'\\') => json.extend(['\\', char::from(byte)]),
            byte => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                json.push_str("\\u00");
                json.extend([byte >> 4, byte & 15].map(|digit| char::from(HEX[usize::from(digit)])));
            }
        }
        rest = &rest[index + 1..];
    }
    json.push_str(rest);
    json.push('"');
}

/// Returns whether no character needs an escape. The loop has no early end, so it is vectorized.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, byte| plain & (byte >= b' ') & (byte != b'"') & (byte != b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_strings_that_serde_json_reads_back() {
        let controls: String = (0..0x20).map(char::from).collect();
        for text in ["", "plain", "é\u{10ffff}\u{7f}", "\"\\\"", "a\\", &controls] {
            let mut json = String::new();
            push_string(&mut json, text);
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text, "{json}");
        }
    }
}
