//! Labels, annotations and node selectors: the entries that injection reads.

use std::borrow::Cow;

use crate::inject::reader::{ReadError, Reader};

/// The maximum number of entries of each of these maps, with those that are not read.
const MOST: usize = 1_000;

/// Some entries of a map from strings to strings, sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entries<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Entries<'a> {
    /// Reads a map and keeps the entries whose key `is_read`.
    pub(super) fn read(reader: &mut Reader<'a>, is_read: impl Fn(&str) -> bool) -> Result<Self, ReadError> {
        let (mut kept, mut count) = (Vec::new(), 0);
        reader.entries(|reader, key| {
            count += 1;
            if count > MOST {
                return Err(ReadError::beyond(MOST, "labels or annotations"));
            }
            if is_read(key) {
                kept.push((key.clone(), reader.string()?));
                Ok(())
            } else {
                reader.ignored_string()
            }
        })?;
        kept.sort_unstable();
        if kept.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(ReadError::duplicate());
        }
        Ok(Self(kept))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let index = self.0.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
        Some(&self.0[index].1)
    }

    /// The keys that begin with `prefix`, each without it.
    pub(crate) fn keys_after<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = &'s str> {
        self.0.iter().filter_map(move |(key, _)| key.strip_prefix(prefix))
    }
}

#[cfg(test)]
impl Entries<'_> {
    pub(super) fn all(&self) -> &[(Cow<'_, str>, Cow<'_, str>)] {
        &self.0
    }
}
