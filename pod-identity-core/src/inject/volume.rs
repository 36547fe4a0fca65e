//! The token's volume and its mounts.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Value, json};

use super::method::Method;
use super::pod::{Container, Pod, Volume, VolumeMount};
use super::settings::{TokenExpiration, TokenProjection};
use super::warning::WarningReason;

/// What a pod has under the name of a token's volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Free,
    /// The token, from an earlier round or from another webhook.
    Filled,
    /// Another volume, or a token for another audience.
    Taken,
}

/// A token, and what a pod has in its place.
pub(super) struct Token<'a> {
    pub(super) projection: &'a TokenProjection,
    pub(super) place: Place,
}

/// The tokens of a pod: those of [`Settings`](super::settings::Settings), the second with the service account's
/// audience. A pod may have many volumes and containers, so the volumes are scanned once.
pub(super) struct Tokens<'a> {
    pub(super) pod_identity: Token<'a>,
    pub(super) web_identity: Token<'a>,
    volumes: HashMap<&'a str, &'a Volume<'a>>,
}

/// The missing parts for a token at its usual path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    Nothing,
    /// It mounts a volume of the token's name, and the pod has none.
    Volume,
    /// The mount, and the volume if the pod lacks it.
    Mount,
}

impl<'a> Tokens<'a> {
    pub(super) fn of_pod(
        pod: &'a Pod<'_>,
        pod_identity: &'a TokenProjection,
        web_identity: &'a TokenProjection,
    ) -> Self {
        let mut volumes = HashMap::new();
        for volume in pod.volumes() {
            volumes.entry(&*volume.name).or_insert(volume);
        }
        let token = |projection: &'a TokenProjection| {
            let place = match volumes.get(&*projection.volume) {
                None => Place::Free,
                Some(volume) if volume.audience_of(&projection.file) == Some(&projection.audience) => {
                    Place::Filled
                }
                Some(_) => Place::Taken,
            };
            Token { projection, place }
        };
        Self { pod_identity: token(pod_identity), web_identity: token(web_identity), volumes }
    }

    /// The token of a method.
    pub(super) fn of(&self, method: Method) -> &Token<'a> {
        match method {
            Method::PodIdentity => &self.pod_identity,
            Method::ThroughAgent | Method::WebIdentity => &self.web_identity,
        }
    }

    /// Returns the audience of the service account's token at a path of the container. Names of volumes and mount
    /// paths do not matter. `path` is the value of a variable, before kubelet expands it.
    pub(super) fn audience_at(&self, container: &Container<'_>, path: &str) -> Option<&str> {
        let path = unescaped(path)?;
        let path = components(&path)?;
        let Covering::One { mount, depth } = covering(container, &path) else { return None };
        let file = [&components_below(mount)?[..], &path[depth..]].concat().join("/");
        self.volumes.get(&*mount.name)?.audience_of(&file)
    }

    /// Returns the missing parts for the token at its usual path.
    ///
    /// # Errors
    /// The [`WarningReason`] against injecting them.
    pub(super) fn gap(&self, container: &Container<'_>, token: &Token<'_>) -> Result<Gap, WarningReason> {
        let projection = token.projection;
        let found = self.audience_at(container, &literal(&projection.token_file(false)));
        if found == Some(&projection.audience) {
            return Ok(Gap::Nothing);
        }
        if let Some(found) = found {
            let (found, wanted) = (found.to_owned(), projection.audience.clone());
            return Err(WarningReason::AudienceDiffers { found, wanted });
        }
        let name_taken = || WarningReason::VolumeNameTaken { volume: projection.volume.clone() };
        let path_taken = || WarningReason::MountPathTaken { path: projection.mount_path.clone() };
        let file = projection.token_file(false);
        let (Some(file), Some(path)) = (components(&file), components(&projection.mount_path)) else {
            return Err(path_taken());
        };
        let is_ours = |mount: &VolumeMount<'_>| {
            mount.name == projection.volume && components_below(mount).is_some_and(|below| below.is_empty())
        };
        match (covering(container, &file), token.place) {
            (Covering::One { mount, depth }, place) if depth == path.len() && is_ours(mount) => match place {
                Place::Free => Ok(Gap::Volume),
                Place::Taken => Err(name_taken()),
                Place::Filled => Err(path_taken()),
            },
            (Covering::One { depth, .. }, _) if depth >= path.len() => Err(path_taken()),
            (Covering::Several { .. }, _) => Err(path_taken()),
            (_, Place::Taken) => Err(name_taken()),
            (_, Place::Free | Place::Filled) => Ok(Gap::Mount),
        }
    }
}

impl Token<'_> {
    /// Whether a path is the one that is injected, in either form: AWS's webhook does not look at `spec.os`.
    pub(super) fn is_usual(&self, path: &str) -> bool {
        [false, true].iter().any(|windows| path == literal(&self.projection.token_file(*windows)))
    }

    /// Whether the container mounts the token under the name and at the path that webhooks write.
    pub(super) fn is_injected(&self, container: &Container<'_>) -> bool {
        let bare = |path: &'_ str| path.trim_end_matches('/').to_owned();
        let path = bare(&self.projection.mount_path);
        self.place == Place::Filled
            && container
                .volume_mounts
                .iter()
                .flatten()
                .any(|mount| mount.name == self.projection.volume && bare(&mount.mount_path) == path)
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

/// The mount that a container sees at a path.
#[derive(Clone, Copy)]
enum Covering<'c> {
    Nothing,
    /// A mount, and the number of components of its path.
    One {
        mount: &'c VolumeMount<'c>,
        depth: usize,
    },
    /// Several mounts at one path, which the API server refuses.
    Several {
        depth: usize,
    },
}

fn covering<'c>(container: &'c Container<'_>, path: &[&str]) -> Covering<'c> {
    let mut found = Covering::Nothing;
    for mount in container.volume_mounts.iter().flatten() {
        let Some(mounted) = components(&mount.mount_path).filter(|mounted| path.starts_with(mounted)) else {
            continue;
        };
        let depth = mounted.len();
        found = match found {
            Covering::One { depth: deepest, .. } | Covering::Several { depth: deepest }
                if deepest > depth =>
            {
                found
            }
            Covering::One { depth: deepest, .. } | Covering::Several { depth: deepest }
                if deepest == depth =>
            {
                Covering::Several { depth }
            }
            _ => Covering::One { mount, depth },
        };
    }
    found
}

/// A value that kubelet does not expand. It replaces `$(NAME)` by another variable's value, and `$$` by `$`: a role
/// from an annotation must not carry a container's secret to STS.
pub(super) fn literal(value: &str) -> String {
    value.replace('$', "$$")
}

/// Expands a value as kubelet does; `None` if the result depends on other variables.
fn unescaped(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains('$') {
        return Some(Cow::Borrowed(value));
    }
    let plain = value.replace("$$", "");
    (!plain.contains("$(")).then(|| Cow::Owned(value.replace("$$", "$")))
}

/// The components of an absolute path, as Linux or Windows writes it; `None` for one that leads upwards.
fn components(path: &str) -> Option<Vec<&str>> {
    let on_windows = path.strip_prefix("C:").or_else(|| path.strip_prefix("c:"));
    let separators: &[char] = if on_windows.is_some() { &['/', '\\'] } else { &['/'] };
    let path = on_windows.unwrap_or(path);
    path.starts_with(separators).then(|| relative(path, separators))?
}

fn relative<'p>(path: &'p str, separators: &[char]) -> Option<Vec<&'p str>> {
    let parts = path.split(separators).filter(|part| !matches!(*part, "" | "."));
    parts.map(|part| (part != "..").then_some(part)).collect()
}

/// The part of the volume that a mount shows; `None` if it depends on variables.
fn components_below<'m>(mount: &'m VolumeMount<'_>) -> Option<Vec<&'m str>> {
    mount.sub_path_expr.is_empty().then(|| relative(&mount.sub_path, &['/']))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::settings::Settings;

    #[test]
    fn a_token_is_found_by_what_is_mounted_where_a_path_leads_and_by_no_name() {
        let json = r#"{"metadata": {}, "spec": {
            "volumes": [
                {"name": "a", "projected": {"sources": [{"configMap": {"name": "x"}},
                    {"serviceAccountToken": {"audience": "sts.amazonaws.com", "path": "dir/token"}}]}},
                {"name": "aws-iam-token", "emptyDir": {}}],
            "containers": [{"name": "app", "volumeMounts": [
                {"name": "a", "mountPath": "/tokens/"},
                {"name": "a", "mountPath": "/one/file", "subPath": "dir/token"},
                {"name": "a", "mountPath": "/part", "subPath": "dir"},
                {"name": "a", "mountPath": "/by/variable", "subPathExpr": "$(DIR)"},
                {"name": "a", "mountPath": "C:\\windows"},
                {"name": "aws-iam-token", "mountPath": "/tokens/hidden"},
                {"name": "a", "mountPath": "/twice"},
                {"name": "a", "mountPath": "/twice/"},
                {"name": "nothing", "mountPath": "/missing"}]}]}}"#;
        let pod = Pod::parse(json).unwrap();
        let settings = Settings::default();
        let tokens = Tokens::of_pod(&pod, &settings.pod_identity, &settings.web_identity);
        let (_, container) = pod.containers().next().unwrap();
        for (path, found) in [
            ("/tokens/dir/token", true),
            ("//tokens/./dir//token", true),
            ("/one/file", true),
            ("/part/token", true),
            (r"C:\windows\dir\token", true),
            ("c:/windows/dir/token", true),
            ("/tokens/dir", false),
            ("/tokens/dir/token/more", false),
            ("/tokens/token", false),
            ("/tokensdir/token", false),
            ("/tokens/hidden/dir/token", false),
            ("/tokens/x/../dir/token", false),
            ("/by/variable/dir/token", false),
            ("/missing/dir/token", false),
            ("/twice/dir/token", false),
            ("tokens/dir/token", false),
            ("/tokens/$(DIR)/token", false),
            ("", false),
        ] {
            assert_eq!(tokens.audience_at(container, path), found.then_some("sts.amazonaws.com"), "{path}");
        }
    }

    #[test]
    fn a_dollar_sign_is_read_as_kubelet_reads_it() {
        for (value, expected) in [
            ("/a", Some("/a")),
            ("/$$(A)", Some("/$(A)")),
            ("/$(A)", None),
            ("/$$$(A)", None),
            ("/$$a$b", Some("/$a$b")),
        ] {
            assert_eq!(unescaped(value).as_deref(), expected, "{value}");
        }
    }
}
