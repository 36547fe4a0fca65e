//! The token's volume and its mounts.

use serde_json::{Value, json};

use crate::pod::{Container, Pod};
use crate::settings::{TokenExpiration, TokenProjection};

/// What a pod has under the name of a token's volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// The token is there, from an earlier round or from AWS's webhook.
    Filled,
    /// Something else is there.
    Taken,
}

pub(super) fn place(pod: &Pod<'_>, token: &TokenProjection) -> Place {
    match pod.volume(&token.volume) {
        None => Place::Free,
        Some(volume) if volume.projects(&token.audience, &token.file) => Place::Filled,
        Some(_) => Place::Taken,
    }
}

pub(super) fn volume(token: &TokenProjection, expiration: TokenExpiration) -> Value {
    json!({"name": token.volume, "projected": {"sources": [{"serviceAccountToken": {
        "audience": token.audience, "expirationSeconds": expiration.seconds(), "path": token.file,
    }}]}})
}

pub(super) fn mount(token: &TokenProjection) -> Value {
    json!({"name": token.volume, "mountPath": token.mount_path, "readOnly": true})
}

/// Whether the container mounts the token where its variable says.
pub(super) fn is_mounted(container: &Container<'_>, token: &TokenProjection) -> bool {
    at_mount_path(container, token).any(|volume| volume == token.volume)
}

/// Whether the container mounts something else there.
pub(super) fn is_path_taken(container: &Container<'_>, token: &TokenProjection) -> bool {
    at_mount_path(container, token).any(|volume| volume != token.volume)
}

/// The volumes that the container mounts at the token's place: none or one, in a pod that the API server takes.
fn at_mount_path<'c>(container: &'c Container<'_>, token: &TokenProjection) -> impl Iterator<Item = &'c str> {
    fn bare(path: &str) -> &str {
        path.trim_end_matches('/')
    }
    let mounts = container.volume_mounts.iter().flatten();
    mounts.filter(|mount| bare(&mount.mount_path) == bare(&token.mount_path)).map(|mount| &*mount.name)
}
