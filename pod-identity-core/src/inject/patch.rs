//! A JSON Patch (RFC 6902) that only adds, written as JSON.

use std::fmt::{self, Write as _};

use super::writer::push_string;

/// The start of each operation. It cannot occur inside a value: a quote in a string is escaped.
const OPERATION: &str = r#"{"op":"add","path":""#;

/// The bytes that are reserved before an operation: most operations are shorter.
const RESERVED: usize = 512;

/// A JSON Patch (RFC 6902) with `add` operations only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch(String);

impl Default for Patch {
    fn default() -> Self {
        Self("[]".to_owned())
    }
}

impl Patch {
    /// Returns whether the patch has no operation.
    pub fn is_empty(&self) -> bool {
        self.0 == "[]"
    }

    /// Returns the patch as JSON: the array of its operations.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Returns the path of each operation, in the order of the operations.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.split(OPERATION).skip(1).filter_map(|rest| rest.split('"').next())
    }
}

/// The operations of a patch, each behind a `[` or a comma.
#[derive(Debug, Default)]
pub(super) struct Operations(String);

impl Operations {
    /// Appends the operations of another list.
    pub(super) fn extend(&mut self, other: &Self) {
        if let Some(operations) = other.0.strip_prefix('[') {
            self.0.reserve(other.0.len() + "]".len());
            self.separate();
            self.0.push_str(operations);
        }
    }

    pub(super) fn into_patch(mut self) -> Patch {
        if self.0.is_empty() {
            return Patch::default();
        }
        self.0.push(']');
        Patch(self.0)
    }

    fn separate(&mut self) {
        self.0.push(if self.0.is_empty() { '[' } else { ',' });
    }

    /// Adds a member with a string to a map, and the map if it does not exist. In a path, `/` in a key is written `~1`, and
    /// `~` is written `~0` (RFC 6901, section 3).
    pub(super) fn add_member(&mut self, map: &str, exists: bool, key: &str, value: &str) {
        if exists {
            let key = key.replace('~', "~0").replace('/', "~1");
            self.add(format_args!("{map}/{key}"), |json| push_string(json, value));
        } else {
            self.add(format_args!("{map}"), |json| {
                json.push('{');
                push_string(json, key);
                json.push(':');
                push_string(json, value);
                json.push('}');
            });
        }
    }

    /// Appends values to a list, and adds the list if it does not exist. `write` appends one value to a JSON text.
    pub(super) fn append<T>(
        &mut self,
        list: fmt::Arguments<'_>,
        exists: bool,
        values: impl IntoIterator<Item = T>,
        write: impl Fn(&mut String, T),
    ) {
        let mut values = values.into_iter().peekable();
        if exists {
            for value in values {
                self.add(format_args!("{list}/-"), |json| write(json, value));
            }
        } else if values.peek().is_some() {
            self.add(list, |json| {
                let mut separator = '[';
                for value in values {
                    json.push(separator);
                    write(json, value);
                    separator = ',';
                }
                json.push(']');
            });
        }
    }

    /// `path` has no character that JSON would escape.
    fn add(&mut self, path: fmt::Arguments<'_>, write: impl FnOnce(&mut String)) {
        self.0.reserve(RESERVED);
        self.separate();
        let json = &mut self.0;
        json.push_str(OPERATION);
        let _ = json.write_fmt(path); // a String takes all
        json.push_str(r#"","value":"#);
        write(json);
        json.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parsed(patch: &Patch) -> Value {
        serde_json::from_str(patch.as_json()).unwrap()
    }

    #[test]
    fn escapes_a_key_in_a_path_and_not_in_a_map() {
        let mut operations = Operations::default();
        operations.add_member("/labels", true, "a/b~c", "x");
        operations.add_member("/labels", false, "a/b~c", "x");
        let patch = operations.into_patch();
        let expected = json!([
            {"op": "add", "path": "/labels/a~1b~0c", "value": "x"},
            {"op": "add", "path": "/labels", "value": {"a/b~c": "x"}},
        ]);
        assert_eq!(parsed(&patch), expected);
        assert_eq!(patch.paths().collect::<Vec<_>>(), ["/labels/a~1b~0c", "/labels"]);
    }

    #[test]
    fn appends_to_a_list_and_adds_a_missing_list() {
        let mut operations = Operations::default();
        let values = [r#"{"op":"add","path":"x"}"#, "b"];
        operations.append(format_args!("/a"), true, values, push_string);
        operations.append(format_args!("/b"), false, values, push_string);
        operations.append(format_args!("/c"), false, [], push_string);
        let patch = operations.into_patch();
        let expected = json!([
            {"op": "add", "path": "/a/-", "value": values[0]},
            {"op": "add", "path": "/a/-", "value": values[1]},
            {"op": "add", "path": "/b", "value": values},
        ]);
        assert_eq!(parsed(&patch), expected);
        assert_eq!(patch.paths().collect::<Vec<_>>(), ["/a/-", "/a/-", "/b"]);
    }

    #[test]
    fn a_patch_without_operations_is_an_empty_array() {
        let patch = Operations::default().into_patch();
        assert!(patch.is_empty() && patch == Patch::default() && patch.paths().next().is_none());
        assert_eq!(parsed(&patch), json!([]));
    }
}
