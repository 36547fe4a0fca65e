//! Manifests that kustomize builds.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cluster::{documents, programs};
use crate::skip::or_skip;

/// Builds a kustomization with `kubectl kustomize`, and returns its objects. Without kubectl, prints a notice on standard
/// error and returns `None`.
///
/// # Panics
/// If the kustomization is invalid, or under `CI=true` if kubectl is missing.
pub fn build(directory: &Path) -> Option<Vec<Value>> {
    let path = or_skip("kubectl", programs::path(programs::NODE))?;
    let found =
        std::env::split_paths(&path).map(|directory| directory.join("kubectl")).find(|file| file.is_file());
    let kubectl = found.expect("kubectl is one of the node's programs");
    let output = Command::new(kubectl).arg("kustomize").arg(directory).output().expect("kubectl starts");
    assert!(output.status.success(), "{}: {}", directory.display(), String::from_utf8_lossy(&output.stderr));
    Some(documents(&String::from_utf8_lossy(&output.stdout)))
}
