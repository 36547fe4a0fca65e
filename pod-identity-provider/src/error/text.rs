//! Texts of other programs, made fit for a log line and an error.

use std::error::Error as StdError;
use std::io;

/// Makes one line of a text, of at most 1 KiB.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 1024;
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > LONGEST {
        line.truncate(line.floor_char_boundary(LONGEST));
        line += "...";
    }
    line.trim().to_owned()
}

/// The text of an error and of all its sources.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in sources(error).map(ToString::to_string) {
        // Some errors print their source too.
        if !texts.iter().any(|before| before.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

/// An error and all its sources. `io::Error::source` skips the error that it holds.
pub(super) fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|error| error as &(dyn StdError + 'static)),
        None => error.source(),
    })
}
