//! Tags. Keys are case-insensitive and keep the case in which they were written (IAM user guide, *Pass session tags in
//! AWS STS*).

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// A map of tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    by_lower_key: BTreeMap<String, (String, String)>,
}

impl Tags {
    /// Sets a tag. Returns the previous tag with this key in any case.
    pub fn insert(&mut self, key: &str, value: &str) -> Option<(String, String)> {
        self.by_lower_key.insert(key.to_lowercase(), (key.to_owned(), value.to_owned()))
    }

    /// Returns the value of a tag.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.by_lower_key.get(&key.to_lowercase()).map(|(_, value)| value.as_str())
    }

    /// Returns a tag's key as it was written.
    pub fn key(&self, key: &str) -> Option<&str> {
        self.by_lower_key.get(&key.to_lowercase()).map(|(key, _)| key.as_str())
    }

    /// Returns keys and values, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_lower_key.values().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns the number of tags.
    pub fn len(&self) -> usize {
        self.by_lower_key.len()
    }

    /// Whether the map has no tags.
    pub fn is_empty(&self) -> bool {
        self.by_lower_key.is_empty()
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
