//! Short texts from a pod or a service account.

/// The first `most` characters of a text.
pub(crate) fn truncated(text: &str, most: usize) -> &str {
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

/// Parses a Boolean as Go's `strconv.ParseBool` does: AWS's webhook is a Go program, and annotations are written for it.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncates_between_characters_and_keeps_a_short_text() {
        for (most, expected) in [(0, ""), (1, "é"), (2, "éa"), (3, "éa"), (usize::MAX, "éa")] {
            assert_eq!(truncated("éa", most), expected);
        }
    }

    #[test]
    fn parses_the_booleans_of_go_only() {
        assert_eq!(parse_bool("T"), Some(true));
        assert_eq!(parse_bool("False"), Some(false));
        for text in ["", "yes", "tRUE", " true", "2"] {
            assert_eq!(parse_bool(text), None, "{text:?}");
        }
    }
}
