//! The containers of a pod: their variables and mounts.

use std::borrow::Cow;

use crate::inject::reader::{Limit, ReadError, Reader};

/// For each of two lists: 1,000 in a pod.
pub(super) const CONTAINERS: Limit = Limit { most: 500, name: "containers or init containers" };
const VARIABLES: Limit = Limit { most: 2_000, name: "variables of a container" };
const ENV_FROM: Limit = Limit { most: 100, name: "envFrom entries of a container" };
const MOUNTS: Limit = Limit { most: 1_000, name: "mounts of a container" };

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container<'a> {
    pub(crate) name: Cow<'a, str>,
    /// The variables that SDKs read; `None` if the container has no list of variables.
    pub(crate) env: Option<Vec<Variable<'a>>>,
    /// The prefixes of the variables that come from ConfigMaps and Secrets.
    env_from: Vec<Cow<'a, str>>,
    /// `None` if the container has no list of mounts.
    pub(crate) volume_mounts: Option<Vec<VolumeMount<'a>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable<'a> {
    pub(crate) name: Cow<'a, str>,
    /// The value, empty if it comes from another object.
    pub(crate) value: Cow<'a, str>,
    has_source: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeMount<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) mount_path: Cow<'a, str>,
    pub(crate) sub_path: Cow<'a, str>,
    pub(crate) sub_path_expr: Cow<'a, str>,
}

impl<'a> Container<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let (mut name, mut env, mut env_from, mut volume_mounts) = (None, None, None, None);
        reader.object(|reader, key| match key {
            "name" => reader.once(&mut name, Reader::string),
            "env" => reader
                .once(&mut env, |reader| reader.nullable(|reader| reader.list(VARIABLES, Variable::read))),
            "envFrom" => {
                reader.once(&mut env_from, |reader| reader.nullable(|reader| reader.list(ENV_FROM, prefix)))
            }
            "volumeMounts" => reader.once(&mut volume_mounts, |reader| {
                reader.nullable(|reader| reader.list(MOUNTS, VolumeMount::read))
            }),
            _ => reader.skip(),
        })?;
        Ok(Self {
            name: name.unwrap_or_default(),
            env: env.flatten(),
            env_from: env_from.flatten().unwrap_or_default(),
            volume_mounts: volume_mounts.flatten(),
        })
    }

    /// Returns a variable of the container's own `env`. The last one of a name counts, as in kubelet.
    pub(crate) fn variable(&self, name: &str) -> Option<&Variable<'_>> {
        self.env.iter().flatten().rev().find(|variable| variable.name == name)
    }

    /// Returns whether a ConfigMap or Secret, whose keys are not visible at admission, may set one of these variables.
    pub(crate) fn env_from_may_set<'n>(&self, names: impl IntoIterator<Item = &'n &'n str> + Clone) -> bool {
        self.env_from.iter().any(|prefix| {
            names.clone().into_iter().any(|name| name.len() > prefix.len() && name.starts_with(&**prefix))
        })
    }
}

impl<'a> Variable<'a> {
    /// Reads a variable. Returns `None` unless its name begins with `AWS_`, as all do that injection reads.
    fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, ReadError> {
        let (mut name, mut value, mut value_from) = (None::<Cow<'a, str>>, None, None);
        let is_read = |name: &str| name.starts_with("AWS_");
        reader.object(|reader, key| match key {
            "name" => reader.once(&mut name, Reader::string),
            // A configuration file may be in here: it is not decoded.
            "value" if name.as_ref().is_some_and(|name| !is_read(name)) => {
                reader.once(&mut value, |reader| reader.ignored_string().map(|()| Cow::Borrowed("")))
            }
            "value" => reader.once(&mut value, Reader::string),
            "valueFrom" => reader.once(&mut value_from, |reader| reader.nullable(Reader::skip)),
            _ => reader.skip(),
        })?;
        Ok(name.filter(|name| is_read(name)).map(|name| Self {
            name,
            value: value.unwrap_or_default(),
            has_source: value_from.flatten().is_some(),
        }))
    }

    /// Returns whether the value is empty. Some SDKs treat such a variable as set, but none uses it.
    pub(crate) fn is_empty(&self) -> bool {
        self.value.is_empty() && !self.has_source
    }
}

/// The prefix of an `envFrom` entry.
fn prefix<'a>(reader: &mut Reader<'a>) -> Result<Option<Cow<'a, str>>, ReadError> {
    let mut prefix = None;
    reader.object(|reader, key| match key {
        "prefix" => reader.once(&mut prefix, Reader::string),
        _ => reader.skip(),
    })?;
    Ok(Some(prefix.unwrap_or_default()))
}

impl<'a> VolumeMount<'a> {
    /// Reads a mount. Returns `None` if it has no path.
    fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, ReadError> {
        let (mut name, mut mount_path, mut sub_path, mut sub_path_expr) = (None, None, None, None);
        reader.object(|reader, key| match key {
            "name" => reader.once(&mut name, Reader::string),
            "mountPath" => reader.once(&mut mount_path, Reader::string),
            "subPath" => reader.once(&mut sub_path, Reader::string),
            "subPathExpr" => reader.once(&mut sub_path_expr, Reader::string),
            _ => reader.skip(),
        })?;
        Ok(mount_path.filter(|path: &Cow<'_, str>| !path.is_empty()).map(|mount_path| Self {
            name: name.unwrap_or_default(),
            mount_path,
            sub_path: sub_path.unwrap_or_default(),
            sub_path_expr: sub_path_expr.unwrap_or_default(),
        }))
    }
}

#[cfg(test)]
impl Container<'_> {
    pub(super) fn prefixes(&self) -> &[Cow<'_, str>] {
        &self.env_from
    }
}
