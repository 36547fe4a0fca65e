//! Manifests that kustomize builds.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::cluster::documents;
use crate::install;
use crate::skip::or_skip;

/// Builds a kustomization with `kubectl kustomize`, and returns its objects. Without kubectl, prints a notice on standard
/// error and returns `None`.
///
/// # Panics
/// If the kustomization is invalid, or under `CI=true` if kubectl is missing.
pub fn build(directory: &Path) -> Option<Vec<Value>> {
    let version = install::output_of(Command::new("kubectl").args(["version", "--client"]));
    or_skip("kubectl", version)?;
    let output = Command::new("kubectl").arg("kustomize").arg(directory).output().expect("kubectl starts");
    assert!(output.status.success(), "{}: {}", directory.display(), String::from_utf8_lossy(&output.stderr));
    Some(documents(&String::from_utf8_lossy(&output.stdout)))
}
