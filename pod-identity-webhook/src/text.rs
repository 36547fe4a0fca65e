//! Texts from outside, which may be as long as a whole review: what is said of them is not.

use std::time::SystemTime;

/// The beginning of a text, of at most so many characters.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

/// A time in RFC 3339, in UTC.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).unwrap_or_default().strftime("%FT%TZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_one_that_fits_is_whole() {
        for (most, expected) in [(0, ""), (1, "é"), (2, "éa"), (3, "éa"), (usize::MAX, "éa")] {
            assert_eq!(beginning("éa", most), expected);
        }
    }
}
