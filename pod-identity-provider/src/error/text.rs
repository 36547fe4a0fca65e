//! Texts of other programs and of error chains, as one line.

use std::error::Error as StdError;
use std::io;

/// Replaces control characters with spaces, and truncates the text to 1 KiB.
pub(crate) fn one_line(text: &str) -> String {
    const MAX_LENGTH: usize = 1024;
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MAX_LENGTH {
        line.truncate(line.floor_char_boundary(MAX_LENGTH));
        line += "...";
    }
    line.trim().to_owned()
}

/// Returns the text of an error and of all its sources.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in sources(error).map(ToString::to_string) {
        // Some errors include the text of their source.
        if !texts.iter().any(|before| before.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

/// Iterates over an error and all its sources. Includes the error inside an `io::Error`, which `io::Error::source` skips.
pub(super) fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|error| error as &(dyn StdError + 'static)),
        None => error.source(),
    })
}
