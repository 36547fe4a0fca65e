//! Fields of a JSON object that should be strings.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// The value of a field: a string, which may be a secret, or something else.
#[derive(Default)]
pub(super) enum JsonField {
    #[default]
    Missing,
    Text(Zeroizing<String>),
    /// JSON of another type, which is not kept.
    Other,
}

impl JsonField {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the string of a required field. The error holds the name only.
    pub(super) fn required(self, name: &str) -> Result<Zeroizing<String>, String> {
        match self {
            Self::Missing => Err(format!("{name} is missing")),
            Self::Other => Err(format!("{name} is not a string")),
            Self::Text(text) if text.is_empty() => Err(format!("{name} is empty")),
            Self::Text(text) => Ok(text),
        }
    }

    /// Returns the string of an optional field. An empty string counts as missing.
    pub(super) fn optional(self, name: &str) -> Result<Option<Zeroizing<String>>, String> {
        match self {
            Self::Missing => Ok(None),
            Self::Text(text) if text.is_empty() => Ok(None),
            field => field.required(name).map(Some),
        }
    }
}

impl<'de> Deserialize<'de> for JsonField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = JsonField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<JsonField, E> {
        Ok(JsonField::Text(Zeroizing::new(text.to_owned())))
    }

    /// `null` counts as missing.
    fn visit_unit<E>(self) -> Result<JsonField, E> {
        Ok(JsonField::Missing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<JsonField, E> {
        Ok(JsonField::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<JsonField, E> {
        Ok(JsonField::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<JsonField, E> {
        Ok(JsonField::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<JsonField, E> {
        Ok(JsonField::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<JsonField, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(JsonField::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonField, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(JsonField::Other)
    }
}
