//! A policy document as data: JSON text, or a value in another document.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::error::{PolicyError, Problem};

/// A policy document that is not parsed as a policy yet.
///
/// It deserializes from a mapping or from a string of JSON, so that a configuration file may contain either. Duplicate
/// keys are rejected, as the policy grammar requires.
///
/// ```
/// use pod_identity_core::trust::{Policy, PolicyDocument};
///
/// let document = PolicyDocument::from_json(r#"{"Version": "2012-10-17", "Statement": []}"#)?;
/// assert!(Policy::trust_of(&document, 2_048).is_err(), "it has no statement");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDocument {
    pub(super) root: Node,
    pub(super) length: usize,
}

impl PolicyDocument {
    /// Reads JSON text.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] if the text is not JSON, repeats a key, or has characters that IAM does not accept.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        if let Some(character) = text.chars().find(|c| !is_policy_character(*c)) {
            return Err(PolicyError::new("", Problem::Character(character)));
        }
        let root = serde_json::from_str(text)
            .map_err(|error| PolicyError::new("", Problem::Json(error.to_string())))?;
        Ok(Self { root, length: length_without_white_space(text) })
    }

    /// Returns the length as IAM counts it: characters without white space (*IAM and AWS STS quotas*).
    #[doc(hidden)]
    pub fn length(&self) -> usize {
        self.length
    }
}

impl<'de> Deserialize<'de> for PolicyDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let root = match Node::deserialize(deserializer)? {
            Node::Text(json) => return Self::from_json(&json).map_err(de::Error::custom),
            nested => nested,
        };
        let text = root.to_json();
        if let Some(character) = text.chars().find(|c| !is_policy_character(*c)) {
            return Err(de::Error::custom(Problem::Character(character)));
        }
        Ok(Self { root, length: length_without_white_space(&text) })
    }
}

/// Whether a character is allowed in a policy document (STS and IAM service models, `policyDocumentType`).
fn is_policy_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}')
}

fn length_without_white_space(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// A JSON value. Its objects keep their order and have no duplicate keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Returns the type of the JSON value, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }

    /// Returns the value as compact JSON, to count its characters.
    fn to_json(&self) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => value.clone(),
            Self::Text(value) => quoted(value),
            Self::List(items) => {
                format!("[{}]", items.iter().map(Self::to_json).collect::<Vec<_>>().join(","))
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Self)| format!("{}:{}", quoted(key), value.to_json());
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// Returns the entries of an object. `place` is its position, for the error.
pub(super) fn object<'n>(place: &str, node: &'n Node) -> Result<&'n [(String, Node)], PolicyError> {
    match node {
        Node::Map(entries) => Ok(entries),
        other => Err(PolicyError::form(place, format!("is {}, want an object", other.kind()))),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut seen = BTreeSet::new();
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, Node>()? {
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom(format_args!("the key {key:?} is duplicate")));
            }
            map.push((key, value));
        }
        Ok(Node::Map(map))
    }
}
