//! A JSON Patch (RFC 6902) that only adds.

use serde::Serialize;
use serde_json::Value;

/// What is to be added to a pod, and where.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Patch(Vec<Add>);

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Add {
    op: &'static str,
    path: String,
    value: Value,
}

impl Patch {
    /// Whether there is nothing to add.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where something is added, in the order in which it is.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|add| add.path.as_str())
    }

    /// Adds what another one adds, after what this one does.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn add(&mut self, path: impl Into<String>, value: Value) {
        self.0.push(Add { op: "add", path: path.into(), value });
    }

    /// Adds a member of a map; the map too, where the pod has none. A key's `/` is written `~1`, its `~` `~0`
    /// (RFC 6901, 3).
    pub(super) fn add_member(&mut self, map: &str, exists: bool, key: &str, value: Value) {
        if exists {
            self.add(format!("{map}/{}", key.replace('~', "~0").replace('/', "~1")), value);
        } else {
            self.add(map, Value::Object([(key.to_owned(), value)].into_iter().collect()));
        }
    }

    /// Adds to the end of a list; the list too, where the pod has none.
    pub(super) fn append(&mut self, list: &str, exists: bool, values: Vec<Value>) {
        if values.is_empty() {
            return;
        }
        if exists {
            for value in values {
                self.add(format!("{list}/-"), value);
            }
        } else {
            self.add(list, Value::Array(values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_is_escaped_in_a_path_and_not_in_a_map() {
        let mut patch = Patch::default();
        patch.add_member("/labels", true, "a/b~c", json!("x"));
        patch.add_member("/labels", false, "a/b~c", json!("x"));
        let expected = json!([
            {"op": "add", "path": "/labels/a~1b~0c", "value": "x"},
            {"op": "add", "path": "/labels", "value": {"a/b~c": "x"}},
        ]);
        assert_eq!(json!(patch), expected);
    }
}
