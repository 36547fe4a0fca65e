//! JSON parsing that rejects duplicate keys, and arrays in place of objects.
//!
//! RFC 8259 does not define the meaning of a duplicate key: some parsers keep the first value, some the last. Serde's
//! derived types accept an array of the field values in place of an object, which other parsers reject. Identities and
//! rights depend on such documents, so both are rejected at any depth.
//!
//! ```
//! use pod_identity_core::json::{JsonError, from_slice};
//!
//! #[derive(Debug, PartialEq, serde::Deserialize)]
//! struct Pod { name: String }
//!
//! assert_eq!(from_slice::<Pod>(br#"{"name": "cart-1"}"#)?, Pod { name: "cart-1".to_owned() });
//! assert!(matches!(from_slice::<Pod>(br#"["cart-1"]"#), Err(JsonError::Invalid(_))));
//! let twice = br#"{"name": "cart-1", "name": "cart-2"}"#;
//! assert_eq!(from_slice::<Pod>(twice), Err(JsonError::DuplicateKey("name".to_owned())));
//! # Ok::<(), JsonError>(())
//! ```

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::value::{CowStrDeserializer, MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::error::Quoted;

/// Error of parsing JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON, or not of the expected type. The message has the position and never the value.
    #[error("{0}")]
    Invalid(String),
    /// An object has the same key twice.
    #[error("one object has the key {} twice", Quoted(.0))]
    DuplicateKey(String),
}

/// Parses a value from JSON text.
///
/// # Errors
/// [`JsonError`] if the text is not JSON, is not a `T`, has an array in place of a struct, or has a duplicate key in
/// any object, even in one that `T` ignores.
pub fn from_slice<T: DeserializeOwned>(json: &[u8]) -> Result<T, JsonError> {
    let duplicate = RefCell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = T::deserialize(Strict { inner: &mut deserializer, duplicate: &duplicate });
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| match duplicate.take() {
        Some(key) => JsonError::DuplicateKey(key),
        None => JsonError::Invalid(describe(&error)),
    })
}

/// Returns the error and its position, without the value: it may be a secret.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("invalid type: sequence") {
        return format!("found an array, want an object at line {} column {}", error.line(), error.column());
    }
    if error.is_data() && !text.starts_with("missing field") {
        return format!("a value of the wrong type at line {} column {}", error.line(), error.column());
    }
    text
}

/// A part of serde's protocol (a deserializer, a visitor, a seed, or an access to an array or object) that passes the
/// checks on to every nested value.
#[derive(Clone, Copy)]
struct Strict<'a, I> {
    inner: I,
    /// The duplicate key that ended the parsing.
    duplicate: &'a RefCell<Option<String>>,
}

impl<'a, I> Strict<'a, I> {
    fn with<J>(&self, inner: J) -> Strict<'a, J> {
        Strict { inner, duplicate: self.duplicate }
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_option(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_map(visitor)
    }

    /// Rejects arrays, because a map cannot be read from one.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.with(Variant(visitor));
        self.inner.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<V::Value, E> {
        self.inner.visit_bool(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<V::Value, E> {
        self.inner.visit_i64(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<V::Value, E> {
        self.inner.visit_u64(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<V::Value, E> {
        self.inner.visit_f64(value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<V::Value, E> {
        self.inner.visit_str(value)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.visit_some(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let seq = self.with(seq);
        self.inner.visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let map = Members { map: self.with(map), seen: Seen::default() };
        self.inner.visit_map(map)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.deserialize(deserializer)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// The fields of an object, whose keys must be unique.
struct Members<'a, 'de, A> {
    map: Strict<'a, A>,
    seen: Seen<'de>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'_, 'de, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(key) = self.map.inner.next_key_seed(Key)? else { return Ok(None) };
        if let Err(again) = self.seen.insert(key.clone()) {
            *self.map.duplicate.borrow_mut() = Some(again.into_owned());
            return Err(A::Error::custom("duplicate key"));
        }
        seed.deserialize(CowStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.map.with(seed);
        self.map.inner.next_value_seed(seed)
    }
}

/// An enum variant: its name, or an object with one field whose key is the name.
struct Variant<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Variant<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<V::Value, E> {
        self.0.visit_enum(StrDeserializer::new(name))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(MapAccessDeserializer::new(map))
    }
}

/// The keys of an object so far. Few keys are compared faster than hashed. Many keys are hashed, so that the cost does
/// not grow with the square of their number.
#[derive(Default)]
struct Seen<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Seen<'de> {
    const FEW: usize = 16;

    /// Adds a key, or returns it if it is there already.
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

/// A key, borrowed from the text if it has no escapes.
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
mod tests;
