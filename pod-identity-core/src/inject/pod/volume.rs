//! The volumes of a pod: their names, and the service account tokens that they project.

use std::borrow::Cow;

use crate::inject::reader::{Limit, ReadError, Reader};

pub(super) const VOLUMES: Limit = Limit { most: 1_000, name: "volumes" };
const SOURCES: Limit = Limit { most: 100, name: "sources of a volume" };

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume<'a> {
    pub(crate) name: Cow<'a, str>,
    tokens: Vec<ProjectedToken<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ProjectedToken<'a> {
    audience: Cow<'a, str>,
    path: Cow<'a, str>,
}

impl<'a> Volume<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let (mut name, mut projected) = (None, None);
        reader.object(|reader, key| match key {
            "name" => reader.once(&mut name, Reader::string),
            "projected" => reader.once(&mut projected, |reader| reader.nullable(tokens)),
            _ => reader.skip(),
        })?;
        let tokens = projected.flatten().unwrap_or_default();
        Ok(Self { name: name.unwrap_or_default(), tokens })
    }

    /// Returns the audience of the service account token that the volume has in `file`.
    pub(crate) fn audience_of(&self, file: &str) -> Option<&str> {
        self.tokens.iter().find(|token| token.path == file).map(|token| &*token.audience)
    }
}

/// The tokens of a projected volume.
fn tokens<'a>(reader: &mut Reader<'a>) -> Result<Vec<ProjectedToken<'a>>, ReadError> {
    let mut sources = None;
    reader.object(|reader, key| match key {
        "sources" => {
            reader.once(&mut sources, |reader| reader.nullable(|reader| reader.list(SOURCES, source)))
        }
        _ => reader.skip(),
    })?;
    Ok(sources.flatten().unwrap_or_default())
}

/// The token of a source, if the source is one.
fn source<'a>(reader: &mut Reader<'a>) -> Result<Option<ProjectedToken<'a>>, ReadError> {
    let mut token = None;
    reader.object(|reader, key| match key {
        "serviceAccountToken" => reader.once(&mut token, |reader| reader.nullable(ProjectedToken::read)),
        _ => reader.skip(),
    })?;
    Ok(token.flatten())
}

impl<'a> ProjectedToken<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let (mut audience, mut path) = (None, None);
        reader.object(|reader, key| match key {
            "audience" => reader.once(&mut audience, Reader::string),
            "path" => reader.once(&mut path, Reader::string),
            _ => reader.skip(),
        })?;
        Ok(Self { audience: audience.unwrap_or_default(), path: path.unwrap_or_default() })
    }
}

#[cfg(test)]
impl Volume<'_> {
    pub(super) fn all_tokens(&self) -> Vec<(&str, &str)> {
        self.tokens.iter().map(|token| (&*token.audience, &*token.path)).collect()
    }
}
