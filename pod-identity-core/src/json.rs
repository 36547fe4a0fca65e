//! JSON that says each thing once.
//!
//! RFC 8259 leaves open what a repeated key means, and parsers differ: one reads the first value, one
//! the last. Where identity or rights hang on it, a repeated key is refused.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use crate::error::Quoted;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

/// Why a text was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON, or not of the wanted shape.
    #[error("{0}")]
    Invalid(String),
    /// An object has the same key twice.
    #[error("the key {} stands twice in one object", Quoted(.0))]
    DuplicateKey(String),
}

/// Reads a value whose objects, at any depth, have no key twice.
///
/// # Errors
/// [`JsonError`] where the text is not JSON, not a `T`, or repeats a key.
pub fn from_slice<T: DeserializeOwned>(json: &[u8]) -> Result<T, JsonError> {
    let mut duplicate = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let scanned = Unique(&mut duplicate).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if let Some(key) = duplicate {
        return Err(JsonError::DuplicateKey(key));
    }
    scanned.and_then(|()| serde_json::from_slice(json)).map_err(|error| JsonError::Invalid(describe(&error)))
}

/// What is wrong and where, without the value that is: it may be a secret in the wrong place.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.is_data() && !text.starts_with("missing field") {
        return format!("a value of the wrong type at line {} column {}", error.line(), error.column());
    }
    text
}

/// Walks a value, keeps nothing, and stops at the first repeated key.
struct Unique<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        while let Some(key) = map.next_key_seed(Key)? {
            if let Err(again) = seen.insert(key) {
                *self.0 = Some(again.into_owned());
                return Err(A::Error::custom("repeated key"));
            }
            map.next_value_seed(Unique(self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Unique(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The keys of an object so far. Most objects have few, which are compared faster than hashed; one with
/// many must not cost the square of their number.
#[derive(Default)]
struct Seen<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Seen<'de> {
    const FEW: usize = 16;

    /// Takes a key in; gives back one that is there already.
    fn insert(&mut self, key: Cow<'de, str>) -> Result<(), Cow<'de, str>> {
        if self.few.contains(&key) || self.many.contains(&key) {
            return Err(key);
        }
        if self.few.len() < Self::FEW {
            self.few.push(key);
        } else {
            self.many.insert(key);
        }
        Ok(())
    }
}

/// A key, borrowed from the text where it stands there without escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_refused_at_any_depth() {
        for json in [r#"{"a":1,"a":2}"#, r#"[{"b":[{"a":1,"\u0061":2}]}]"#] {
            assert_eq!(
                from_slice::<serde_json::Value>(json.as_bytes()),
                Err(JsonError::DuplicateKey("a".into())),
                "{json}"
            );
        }
        assert!(from_slice::<serde_json::Value>(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn a_repeated_key_is_refused_among_any_number() {
        for count in [1, 15, 16, 17, 18, 100] {
            for again in [0, count / 2, count - 1] {
                let keys: Vec<String> = (0..count).map(|key| format!(r#""{key}":0"#)).collect();
                let object = |keys: &[String]| format!("{{{}}}", keys.join(","));
                let read = |json: &str| from_slice::<serde_json::Value>(json.as_bytes()).map(drop);
                assert_eq!(read(&object(&keys)), Ok(()), "{count}");
                let repeated = [&keys[..], &[format!(r#""{again}":0"#)]].concat();
                let refused = Err(JsonError::DuplicateKey(again.to_string()));
                assert_eq!(read(&object(&repeated)), refused, "{again} of {count}");
            }
        }
    }

    #[test]
    fn an_error_does_not_hold_the_value_that_is_wrong() {
        #[derive(Debug, serde::Deserialize)]
        struct Token {
            #[allow(dead_code)]
            token: String,
        }
        for json in [r#""secret""#, r#"{"token": ["secret"]}"#, r#"[["secret"]]"#] {
            let error = from_slice::<Token>(json.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(from_slice::<Token>(b"{}").unwrap_err().to_string().contains("token"));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for json in ["", "{", r#"{"a":1} x"#, "nul"] {
            assert!(
                matches!(from_slice::<serde_json::Value>(json.as_bytes()), Err(JsonError::Invalid(_))),
                "{json}"
            );
        }
    }
}
