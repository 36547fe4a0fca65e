//! Why a JSON text cannot be read.

use std::borrow::Cow;
use std::fmt;

use crate::inject::text::truncated;

/// The longest part of a string that an error quotes, in characters.
const QUOTED: usize = 64;

/// A text that is not JSON, or a value that is not of the wanted form, with the value's path.
#[derive(Debug)]
pub(in crate::inject) struct ReadError(Box<Details>);

#[derive(Debug)]
struct Details {
    /// The path of the value, like `spec.containers[0].env`. It grows while the error leaves the objects around it.
    path: String,
    reason: String,
    /// Whether the text is not JSON. The reason then has a line and column, and no path is added.
    is_syntax: bool,
}

/// A value that was found in the place of another one.
pub(super) enum Found<'a> {
    String(Cow<'a, str>),
    Type(&'static str),
}

impl ReadError {
    fn of_value(reason: String) -> Self {
        Self(Box::new(Details { path: String::new(), reason, is_syntax: false }))
    }

    /// A text that is not JSON at a byte.
    pub(super) fn syntax(expected: &str, text: &str, position: usize) -> Self {
        let before = &text.as_bytes()[..position.min(text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.len() - line_start + 1;
        let reason = format!("invalid JSON at line {line} column {column}: {expected}");
        Self(Box::new(Details { path: String::new(), reason, is_syntax: true }))
    }

    pub(super) fn wrong_type(found: &Found<'_>, wanted: &str) -> Self {
        Self::of_value(match found {
            Found::Type(found) => format!("found {found}, want {wanted}"),
            Found::String(text) => format!("found the string {:?}, want {wanted}", truncated(text, QUOTED)),
        })
    }

    pub(in crate::inject) fn beyond(most: usize, name: &str) -> Self {
        Self::of_value(format!("more than {most} {name}"))
    }

    pub(in crate::inject) fn duplicate() -> Self {
        Self::of_value("duplicate member".to_owned())
    }

    pub(in crate::inject) fn missing(member: &str) -> Self {
        Self::of_value("missing member".to_owned()).in_member(member)
    }

    /// Adds the member of an object that the error is in.
    pub(super) fn in_member(self, key: &str) -> Self {
        self.within(truncated(key, QUOTED))
    }

    /// Adds the item of a list that the error is in.
    pub(super) fn in_item(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }

    fn within(mut self, part: &str) -> Self {
        let Details { path, is_syntax, .. } = &mut *self.0;
        if !*is_syntax {
            let separator = if path.is_empty() || path.starts_with('[') { "" } else { "." };
            path.insert_str(0, separator);
            path.insert_str(0, part);
        }
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { path, reason, .. } = &*self.0;
        if path.is_empty() { f.write_str(reason) } else { write!(f, "{path}: {reason}") }
    }
}
