//! String fields of a JSON object.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// The value of a field that should be a string. A string may be a secret.
#[derive(Default)]
pub(super) enum JsonField {
    #[default]
    Missing,
    Text(Zeroizing<String>),
    /// JSON of another type. The value is dropped.
    Other,
}

impl JsonField {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the string of a required field.
    ///
    /// # Errors
    /// If the field is missing, empty or not a string. The error contains the name but not the value.
    pub(super) fn required(self, name: &str) -> Result<Zeroizing<String>, String> {
        match self {
            Self::Missing => Err(format!("{name} is missing")),
            Self::Other => Err(format!("{name} is not a string")),
            Self::Text(text) if text.is_empty() => Err(format!("{name} is empty")),
            Self::Text(text) => Ok(text),
        }
    }

    /// Returns the string of an optional field. An empty string counts as missing.
    ///
    /// # Errors
    /// If the field is not a string.
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
        deserializer.deserialize_any(JsonFieldVisitor)
    }
}

struct JsonFieldVisitor;

impl<'de> Visitor<'de> for JsonFieldVisitor {
    type Value = JsonField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<JsonField, E> {
        Ok(JsonField::Text(Zeroizing::new(text.to_owned())))
    }

    /// Treats `null` as missing.
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
