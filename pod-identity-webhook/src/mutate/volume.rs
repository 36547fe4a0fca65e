//! The token's volume and its mounts.

use serde_json::{Value, json};

use super::grant::Grant;
use crate::pod::{Container, Pod};
use crate::settings::{TokenExpiration, TokenProjection};

/// What a pod has under the name of a token's volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// The token is there, from an earlier round or from AWS's webhook.
    Filled,
    /// A token of the service account is there, and it is for somebody else: another webhook may have been told of
    /// another audience.
    OfAnotherAudience,
    /// Something else is there.
    Taken,
}

impl Place {
    fn of(token: &TokenProjection, pod: &Pod<'_>) -> Self {
        let Some(volume) = pod.volume(&token.volume) else { return Self::Free };
        if volume.audiences_of(&token.file).any(|audience| audience == token.audience) {
            Self::Filled
        } else if volume.audiences_of(&token.file).next().is_some() {
            Self::OfAnotherAudience
        } else {
            Self::Taken
        }
    }
}

/// A token, and what a pod has in its place.
pub(super) struct Token<'a> {
    pub(super) projection: &'a TokenProjection,
    pub(super) place: Place,
}

/// The tokens of a pod: those of [`Settings`](crate::settings::Settings), the second with the account's audience.
/// A pod may have many volumes and many containers: the volumes are looked through here, once for each token.
pub(super) struct Tokens<'a> {
    pub(super) pod_identity: Token<'a>,
    pub(super) web_identity: Token<'a>,
}

impl<'a> Tokens<'a> {
    pub(super) fn of_pod(
        pod: &Pod<'_>,
        pod_identity: &'a TokenProjection,
        web_identity: &'a TokenProjection,
    ) -> Self {
        let token = |projection| Token { projection, place: Place::of(projection, pod) };
        Self { pod_identity: token(pod_identity), web_identity: token(web_identity) }
    }

    pub(super) fn of(&self, grant: &Grant) -> &Token<'a> {
        match grant {
            Grant::PodIdentity => &self.pod_identity,
            Grant::ThroughAgent(_) | Grant::WebIdentity(_) => &self.web_identity,
        }
    }
}

impl Token<'_> {
    /// Whether the container mounts a token of the service account where its variable says, for whomever that is.
    pub(super) fn is_carried(&self, container: &Container<'_>) -> bool {
        matches!(self.place, Place::Filled | Place::OfAnotherAudience)
            && is_mounted(container, self.projection)
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

/// Whether the container mounts the token's volume where its variable says.
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
