//! JSON objects, and nothing that could pass for one; and lists and maps of a size that is read.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// A `T` that is written as an object. Derived types also take an array of their members in order, where a
/// path of a patch would lead elsewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct JsonObject<T>(pub(crate) T);

impl<T> Deref for JsonObject<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
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

/// What stands in a [`BoundedList`].
pub(crate) trait Counted {
    /// The most of them that are read.
    const MOST: usize;
    /// What they are called.
    const NAME: &'static str;

    /// Whether anybody will look at it. It counts in any case.
    fn is_read(&self) -> bool {
        true
    }
}

/// A list of objects. One with more of them than are read is refused before the rest of it is gone through.
#[derive(Debug, Clone)]
pub(crate) struct BoundedList<T>(Vec<JsonObject<T>>);

impl<T> Deref for BoundedList<T> {
    type Target = [JsonObject<T>];

    fn deref(&self) -> &[JsonObject<T>] {
        &self.0
    }
}

impl<'a, T> IntoIterator for &'a BoundedList<T> {
    type Item = &'a JsonObject<T>;
    type IntoIter = std::slice::Iter<'a, JsonObject<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<'de, T: Deserialize<'de> + Counted> Deserialize<'de> for BoundedList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Counted> Visitor<'de> for Items<T> {
            type Value = Vec<JsonObject<T>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of {}", T::NAME)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let (mut read, mut count) = (Vec::new(), 0);
                while let Some(item) = items.next_element::<JsonObject<T>>()? {
                    count += 1;
                    if count > T::MOST {
                        return Err(A::Error::custom(format_args!("more than {} {}", T::MOST, T::NAME)));
                    }
                    if item.is_read() {
                        read.push(item);
                    }
                }
                read.shrink_to_fit();
                Ok(read)
            }
        }

        deserializer.deserialize_seq(Items(PhantomData)).map(Self)
    }
}

/// A map of texts, like labels, of at most so many entries.
#[derive(Debug, Clone)]
pub(crate) struct BoundedMap<const MOST: usize>(BTreeMap<String, String>);

impl<const MOST: usize> Deref for BoundedMap<MOST> {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl<'de, const MOST: usize> Deserialize<'de> for BoundedMap<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<const MOST: usize>;

        impl<'de, const MOST: usize> Visitor<'de> for Entries<MOST> {
            type Value = BTreeMap<String, String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let (mut read, mut count) = (BTreeMap::new(), 0);
                while let Some((key, value)) = entries.next_entry()? {
                    count += 1;
                    if count > MOST {
                        return Err(A::Error::custom(format_args!("more than {MOST} labels or annotations")));
                    }
                    read.insert(key, value);
                }
                Ok(read)
            }
        }

        deserializer.deserialize_map(Entries::<MOST>).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Number {
        of: u32,
    }

    impl Counted for Number {
        const MOST: usize = 3;
        const NAME: &'static str = "numbers";

        fn is_read(&self) -> bool {
            self.of > 0
        }
    }

    #[test]
    fn a_list_is_read_up_to_its_bound_and_not_gone_through_beyond() {
        let read =
            |json| serde_json::from_str::<BoundedList<Number>>(json).map_err(|error| error.to_string());
        let three = read(r#"[{"of": 1}, {"of": 0}, {"of": 3}]"#).unwrap();
        assert_eq!(three.iter().map(|number| number.of).collect::<Vec<_>>(), [1, 3]);
        // What comes after the fourth is no JSON, and nobody has seen it.
        for four in
            [r#"[{"of": 0}, {"of": 0}, {"of": 0}, {"of": 0}, }"#, r#"[{"of":1},{"of":1},{"of":1},{"of":1}]"#]
        {
            let error = read(four).unwrap_err();
            assert!(error.starts_with("more than 3 numbers at line 1"), "{error}");
        }
        assert!(read("{}").unwrap_err().contains("expected a list of numbers"));
    }

    #[test]
    fn a_map_is_read_up_to_its_bound_and_a_key_that_stands_twice_counts_twice() {
        let read = |json| serde_json::from_str::<BoundedMap<2>>(json).map_err(|error| error.to_string());
        assert_eq!(read(r#"{"a": "1", "b": "2"}"#).unwrap().len(), 2);
        for three in [r#"{"a": "1", "b": "2", "c": "3"}"#, r#"{"a": "1", "a": "2", "a": "3"}"#] {
            assert!(read(three).unwrap_err().contains("more than 2 labels or annotations"), "{three}");
        }
    }

    #[test]
    fn an_array_of_members_is_no_object() {
        #[derive(Debug, serde::Deserialize)]
        struct Name<'a> {
            name: &'a str,
        }
        assert_eq!(serde_json::from_str::<Name>(r#"["app"]"#).unwrap().name, "app");
        assert_eq!(serde_json::from_str::<JsonObject<Name>>(r#"{"name": "app"}"#).unwrap().name, "app");
        for json in [r#"["app"]"#, r#""app""#, "null", "7"] {
            let error = serde_json::from_str::<JsonObject<Name>>(json).unwrap_err().to_string();
            assert!(error.contains("expected an object"), "{error}");
        }
    }
}
