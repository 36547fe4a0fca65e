//! Members of a JSON object that should be strings.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// A text, which may be a secret, or what is there in its place.
#[derive(Default)]
pub(super) enum Member {
    #[default]
    Missing,
    Text(Zeroizing<String>),
    /// JSON of another type. It is not kept.
    Other,
}

impl Member {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text, where there must be one. An error says the name alone.
    pub(super) fn required(self, name: &str) -> Result<Zeroizing<String>, String> {
        match self {
            Self::Missing => Err(format!("{name} is missing")),
            Self::Other => Err(format!("{name} is no text")),
            Self::Text(text) if text.is_empty() => Err(format!("{name} is empty")),
            Self::Text(text) => Ok(text),
        }
    }

    /// The text, where there may be one: nothing and an empty text are the same.
    pub(super) fn optional(self, name: &str) -> Result<Option<Zeroizing<String>>, String> {
        match self {
            Self::Missing => Ok(None),
            Self::Text(text) if text.is_empty() => Ok(None),
            member => member.required(name).map(Some),
        }
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Member, E> {
        Ok(Member::Text(Zeroizing::new(text.to_owned())))
    }

    /// `null` says that there is none.
    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Missing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Other)
    }
}
