//! Texts from outside, which may be as long as a whole review: what is said of them is not.

/// The beginning of a text, of at most so many characters.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
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
