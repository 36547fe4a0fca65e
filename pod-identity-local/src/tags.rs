//! Tags: keys are compared without case and keep the case they were written in
//! (IAM user guide, *Pass session tags in AWS STS*).

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// Tags by their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    by_lower_key: BTreeMap<String, (String, String)>,
}

impl Tags {
    /// Sets a tag. Gives back the one that had the key, in whatever case, before.
    pub fn insert(&mut self, key: &str, value: &str) -> Option<(String, String)> {
        self.by_lower_key.insert(key.to_lowercase(), (key.to_owned(), value.to_owned()))
    }

    /// The value of a tag.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.by_lower_key.get(&key.to_lowercase()).map(|(_, value)| value.as_str())
    }

    /// The tag's key as it was written.
    pub fn key(&self, key: &str) -> Option<&str> {
        self.by_lower_key.get(&key.to_lowercase()).map(|(key, _)| key.as_str())
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_lower_key.values().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_lower_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_lower_key.is_empty()
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
