//! The archive: an OCI image layout (OCI Image Format 1.1), with the `manifest.json` that `docker load` reads.

use std::collections::BTreeMap;
use std::io;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};
use tar::{Builder, EntryType};

use crate::elf::Architecture;
use crate::layer::append;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The settings that all architectures of an image share.
#[derive(Debug)]
pub struct Settings {
    /// Name and tag, for example `pod-identity-agent:0.1.0`.
    pub name: String,
    /// The command.
    pub entrypoint: String,
    /// User and group. `None`: the container's runtime decides.
    pub user: Option<&'static str>,
    /// The labels.
    pub labels: Map<String, Value>,
}

/// The contents of a layout by digest.
#[derive(Debug, Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds a content and returns its descriptor.
    fn add(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let hash = hex(digest(&SHA256, &content).as_ref());
        let descriptor = json!({
            "mediaType": media_type,
            "digest": format!("sha256:{hash}"),
            "size": content.len(),
        });
        self.0.insert(format!("blobs/sha256/{hash}"), content);
        descriptor
    }
}

/// Writes the archive of one image. `layers` has one layer for each architecture. Docker without containerd's image store
/// loads the first.
///
/// # Errors
/// If the archive cannot be written.
pub fn write(settings: &Settings, layers: Vec<(Architecture, Vec<u8>)>) -> io::Result<Vec<u8>> {
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    let mut docker = Vec::new();
    for (architecture, layer) in layers {
        let layer = blobs.add(LAYER, layer);
        let config = blobs.add(CONFIG, text(&configuration(settings, architecture, &layer)));
        if docker.is_empty() {
            docker.push(json!({
                "Config": path(&config),
                "RepoTags": [settings.name],
                "Layers": [path(&layer)],
            }));
        }
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let mut manifest = blobs.add(MANIFEST, text(&manifest));
        manifest["platform"] = json!({ "architecture": architecture.name(), "os": "linux" });
        manifests.push(manifest);
    }
    let mut top = match &mut manifests[..] {
        [one] => one.take(),
        _ => {
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
            blobs.add(INDEX, text(&index))
        }
    };
    let tag = settings.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    top["annotations"] = json!({
        "io.containerd.image.name": full_name(&settings.name),
        "org.opencontainers.image.ref.name": tag,
    });
    let mut files = blobs.0;
    files.insert("oci-layout".to_owned(), text(&json!({ "imageLayoutVersion": "1.0.0" })));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [top] });
    files.insert("index.json".to_owned(), text(&index));
    files.insert("manifest.json".to_owned(), text(&Value::from(docker)));
    let mut tar = Builder::new(Vec::new());
    for (path, content) in &files {
        append(&mut tar, EntryType::Regular, path, 0o644, content)?;
    }
    tar.into_inner()
}

fn configuration(settings: &Settings, architecture: Architecture, layer: &Value) -> Value {
    let mut config = json!({
        "Entrypoint": [settings.entrypoint],
        "Env": ["PATH=/"],
        "WorkingDir": "/",
        "Labels": settings.labels,
    });
    if let Some(user) = settings.user {
        config["User"] = user.into();
    }
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture.name(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "images" }],
    })
}

fn path(descriptor: &Value) -> String {
    format!("blobs/{}", descriptor["digest"].as_str().unwrap_or_default().replace(':', "/"))
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the name with its registry, as kubelet looks it up: without one it is Docker's default.
fn full_name(name: &str) -> String {
    let registry = match name.split_once('/') {
        Some((first, _)) => first.contains(['.', ':']) || first == "localhost",
        None => false,
    };
    match (registry, name.contains('/')) {
        (true, _) => name.to_owned(),
        (false, true) => format!("docker.io/{name}"),
        (false, false) => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_without_registry_gets_the_default_one() {
        for (name, full) in [
            ("agent:1", "docker.io/library/agent:1"),
            ("team/agent:1", "docker.io/team/agent:1"),
            ("registry.example/agent:1", "registry.example/agent:1"),
            ("localhost/agent:1", "localhost/agent:1"),
            ("host:5000/agent:1", "host:5000/agent:1"),
        ] {
            assert_eq!(full_name(name), full);
        }
    }
}
