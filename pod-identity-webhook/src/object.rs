//! JSON objects, and nothing that could pass for one.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A `T` that is written as an object. Derived types also take an array of their members in order, where a
/// path of a patch would lead elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<T> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_of_members_is_no_object() {
        #[derive(Debug, serde::Deserialize)]
        struct Name<'a> {
            name: &'a str,
        }
        assert_eq!(serde_json::from_str::<Name>(r#"["app"]"#).unwrap().name, "app");
        assert_eq!(serde_json::from_str::<Object<Name>>(r#"{"name": "app"}"#).unwrap().name, "app");
        for json in [r#"["app"]"#, r#""app""#, "null", "7"] {
            let error = serde_json::from_str::<Object<Name>>(json).unwrap_err().to_string();
            assert!(error.contains("expected an object"), "{error}");
        }
    }
}
