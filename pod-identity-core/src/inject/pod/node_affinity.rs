//! Whether a required node affinity places a pod on Windows.

use crate::inject::names;
use crate::inject::reader::{Limit, ReadError, Reader};

const TERMS: Limit = Limit { most: 1_000, name: "terms of a node affinity" };
const EXPRESSIONS: Limit = Limit { most: 1_000, name: "expressions of a node affinity" };
/// As many as a review has: they are not stored.
const VALUES: Limit = Limit { most: usize::MAX, name: "values of an expression" };

/// Reads `spec.affinity`. Returns whether it selects Windows nodes only.
pub(super) fn requires_windows(reader: &mut Reader<'_>) -> Result<bool, ReadError> {
    let mut node_affinity = None;
    reader.object(|reader, key| match key {
        "nodeAffinity" => reader.once(&mut node_affinity, |reader| reader.nullable(required)),
        _ => reader.skip(),
    })?;
    Ok(node_affinity.flatten().unwrap_or_default())
}

fn required(reader: &mut Reader<'_>) -> Result<bool, ReadError> {
    let mut selector = None;
    reader.object(|reader, key| match key {
        "requiredDuringSchedulingIgnoredDuringExecution" => {
            reader.once(&mut selector, |reader| reader.nullable(node_selector))
        }
        _ => reader.skip(),
    })?;
    Ok(selector.flatten().unwrap_or_default())
}

/// Terms are alternatives; the expressions of one term all apply (Kubernetes API, `NodeSelector`). A term without
/// expressions selects no node.
fn node_selector(reader: &mut Reader<'_>) -> Result<bool, ReadError> {
    let mut terms = None;
    reader.object(|reader, key| match key {
        "nodeSelectorTerms" => reader.once(&mut terms, |reader| {
            reader.nullable(|reader| reader.list(TERMS, |reader| term(reader).map(Some)))
        }),
        _ => reader.skip(),
    })?;
    let terms = terms.flatten().unwrap_or_default();
    Ok(!terms.is_empty() && terms.iter().all(|requires_windows| *requires_windows))
}

fn term(reader: &mut Reader<'_>) -> Result<bool, ReadError> {
    let (mut expressions, mut requires_windows) = (None, false);
    reader.object(|reader, key| match key {
        "matchExpressions" => reader.once(&mut expressions, |reader| {
            reader.nullable(|reader| {
                reader.items(EXPRESSIONS, |reader| {
                    requires_windows |= expression(reader)?;
                    Ok(())
                })
            })
        }),
        _ => reader.skip(),
    })?;
    Ok(requires_windows)
}

fn expression(reader: &mut Reader<'_>) -> Result<bool, ReadError> {
    let (mut label, mut operator, mut systems) = (None, None, None);
    reader.object(|reader, key| match key {
        "key" => reader.once(&mut label, Reader::string),
        "operator" => reader.once(&mut operator, Reader::string),
        "values" => reader.once(&mut systems, |reader| reader.nullable(Systems::read)),
        _ => reader.skip(),
    })?;
    let systems = systems.flatten().unwrap_or_default();
    Ok(names::OS.contains(&&*label.unwrap_or_default())
        && match &*operator.unwrap_or_default() {
            "In" => systems.only_windows,
            "NotIn" => systems.linux, // Kubernetes has no third system
            _ => false,
        })
}

/// Names of operating systems.
#[derive(Default)]
struct Systems {
    only_windows: bool,
    linux: bool,
}

impl Systems {
    fn read(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        let (mut windows, mut linux, mut other) = (false, false, false);
        reader.items(VALUES, |reader| {
            match &*reader.string()? {
                "windows" => windows = true,
                "linux" => linux = true,
                _ => other = true,
            }
            Ok(())
        })?;
        Ok(Self { only_windows: windows && !linux && !other, linux })
    }
}
