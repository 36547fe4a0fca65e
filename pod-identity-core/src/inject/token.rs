//! The token's volume and its mounts: which a pod has, and which parts are missing.

use super::expansion::expanded;
use super::method::Method;
use super::path::Path;
use super::pod::{Container, Pod, Volume, VolumeMount};
use super::prepared::{Prepared, PreparedToken};
use super::settings::TokenExpiration;
use super::warning::WarningReason;
use super::writer::push_string;

/// What a pod has under the name of a token's volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VolumeState {
    Absent,
    /// The token, from an earlier injection or another webhook.
    Token,
    /// Another volume, or a token for another audience.
    Other,
}

/// A token that injection adds, and the state of its volume in the pod.
pub(super) struct Token<'a> {
    prepared: &'a PreparedToken,
    pub(super) audience: &'a str,
    pub(super) volume: VolumeState,
}

/// The tokens for Pod Identity and IRSA, and the pod's volumes.
pub(super) struct Tokens<'a> {
    pub(super) pod_identity: Token<'a>,
    pub(super) web_identity: Token<'a>,
    /// Sorted by name, the first of each name: a pod may have 1,000 volumes and 1,000 containers.
    volumes: Vec<&'a Volume<'a>>,
}

/// The missing parts for a token at its usual path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingParts {
    Nothing,
    /// The container mounts a volume of the token's name, which the pod does not have.
    Volume,
    /// The mount, and the volume if the pod does not have it.
    Mount,
}

impl<'a> Tokens<'a> {
    /// `audience` is the service account's audience for IRSA, in place of the one of the settings.
    pub(super) fn of_pod(pod: &'a Pod<'_>, prepared: &'a Prepared, audience: Option<&'a str>) -> Self {
        let mut volumes: Vec<_> = pod.volumes().collect();
        volumes.sort_by(|one, other| one.name.cmp(&other.name));
        volumes.dedup_by(|later, first| later.name == first.name);
        let token = |prepared: &'a PreparedToken, audience| {
            let volume = match volume_of(&volumes, &prepared.projection.volume) {
                None => VolumeState::Absent,
                Some(volume) if volume.audience_of(&prepared.projection.file) == Some(audience) => {
                    VolumeState::Token
                }
                Some(_) => VolumeState::Other,
            };
            Token { prepared, audience, volume }
        };
        let (pod_identity, web_identity) = (&prepared.pod_identity, &prepared.web_identity);
        Self {
            pod_identity: token(pod_identity, &pod_identity.projection.audience),
            web_identity: token(web_identity, audience.unwrap_or(&web_identity.projection.audience)),
            volumes,
        }
    }

    /// Returns the token of a method.
    pub(super) fn of(&self, method: Method) -> &Token<'a> {
        match method {
            Method::PodIdentity => &self.pod_identity,
            Method::ThroughAgent | Method::WebIdentity => &self.web_identity,
        }
    }

    /// Returns the audience of the service account token at a path of the container. Names of volumes and mount paths do not
    /// matter. `path` is the value of a variable, before kubelet expands it.
    pub(super) fn audience_at(&self, container: &Container<'_>, path: &str) -> Option<&str> {
        let path = expanded(path)?;
        let path = Path::absolute(&path)?;
        self.audience_in(&visible_mount(container, path), path)
    }

    fn audience_in(&self, mount: &VisibleMount<'_>, path: Path<'_>) -> Option<&str> {
        let VisibleMount::One { mount, .. } = mount else { return None };
        let volume = volume_of(&self.volumes, &mount.name)?;
        let (_, below) = path.below(Path::of_mount(&mount.mount_path)?)?;
        let file: Vec<_> = mounted_part(mount)?.components().chain(below).collect();
        volume.audience_of(&file.join("/"))
    }

    /// Returns the missing parts for the token at its usual path.
    ///
    /// # Errors
    /// The [`WarningReason`] against injecting them.
    pub(super) fn missing_parts(
        &self,
        container: &Container<'_>,
        token: &Token<'_>,
    ) -> Result<MissingParts, WarningReason> {
        let projection = &token.prepared.projection;
        let name_taken = || WarningReason::VolumeNameTaken { volume: projection.volume.clone() };
        let path_taken = || WarningReason::MountPathTaken { path: projection.mount_path.clone() };
        let (file, path) = (Path::absolute(token.file(false)), Path::absolute(&projection.mount_path));
        let (Some(file), Some(path)) = (file, path) else { return Err(path_taken()) };
        let visible = visible_mount(container, file);
        match self.audience_in(&visible, file) {
            Some(found) if found == token.audience => return Ok(MissingParts::Nothing),
            Some(found) => {
                let (found, wanted) = (found.to_owned(), token.audience.to_owned());
                return Err(WarningReason::AudienceDiffers { found, wanted });
            }
            None => {}
        }
        let is_ours = |mount: &VolumeMount<'_>| {
            mount.name == projection.volume
                && mounted_part(mount).is_some_and(|part| part.components().next().is_none())
        };
        let usual_depth = path.components().count();
        match (visible, token.volume) {
            (VisibleMount::One { mount, depth }, state) if depth == usual_depth && is_ours(mount) => {
                match state {
                    VolumeState::Absent => Ok(MissingParts::Volume),
                    VolumeState::Other => Err(name_taken()),
                    VolumeState::Token => Err(path_taken()),
                }
            }
            (VisibleMount::One { depth, .. }, _) if depth >= usual_depth => Err(path_taken()),
            (VisibleMount::Several { .. }, _) => Err(path_taken()),
            (_, VolumeState::Other) => Err(name_taken()),
            (_, VolumeState::Absent | VolumeState::Token) => Ok(MissingParts::Mount),
        }
    }
}

fn volume_of<'a>(volumes: &[&'a Volume<'a>], name: &str) -> Option<&'a Volume<'a>> {
    let index = volumes.binary_search_by(|volume| (*volume.name).cmp(name)).ok()?;
    Some(volumes[index])
}

impl Token<'_> {
    /// Returns the token's usual path.
    pub(super) fn file(&self, is_windows: bool) -> &str {
        self.prepared.file(is_windows)
    }

    /// Returns whether a variable's value is the usual path on either system: AWS's webhook does not read `spec.os`.
    pub(super) fn is_usual(&self, value: &str) -> bool {
        expanded(value).is_some_and(|path| [false, true].iter().any(|windows| path == self.file(*windows)))
    }

    /// Returns whether the container mounts the token under the name and at the path that webhooks write.
    pub(super) fn is_injected(&self, container: &Container<'_>) -> bool {
        let projection = &self.prepared.projection;
        let is_ours = |mount: &VolumeMount<'_>| {
            mount.name == projection.volume
                && mount.mount_path.trim_end_matches('/') == projection.mount_path.trim_end_matches('/')
        };
        self.volume == VolumeState::Token && container.volume_mounts.iter().flatten().any(is_ours)
    }

    /// Appends the pod's volume as JSON.
    pub(super) fn push_volume(&self, json: &mut String, expiration: TokenExpiration) {
        json.push_str(r#"{"name":"#);
        push_string(json, &self.prepared.projection.volume);
        json.push_str(r#","projected":{"sources":[{"serviceAccountToken":{"audience":"#);
        push_string(json, self.audience);
        json.push_str(r#","expirationSeconds":"#);
        json.push_str(&expiration.seconds().to_string());
        json.push_str(r#","path":"#);
        push_string(json, &self.prepared.projection.file);
        json.push_str("}}]}}");
    }

    /// Appends a container's mount as JSON.
    pub(super) fn push_mount(&self, json: &mut String) {
        json.push_str(r#"{"name":"#);
        push_string(json, &self.prepared.projection.volume);
        json.push_str(r#","mountPath":"#);
        push_string(json, &self.prepared.projection.mount_path);
        json.push_str(r#","readOnly":true}"#);
    }
}

/// The mount that a container's process sees at a path: the one with the longest path.
#[derive(Clone, Copy)]
enum VisibleMount<'c> {
    None,
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

fn visible_mount<'c>(container: &'c Container<'_>, path: Path<'_>) -> VisibleMount<'c> {
    let mut visible = VisibleMount::None;
    for mount in container.volume_mounts.iter().flatten() {
        let parent = Path::of_mount(&mount.mount_path);
        let Some(depth) = parent.and_then(|parent| path.below(parent)).map(|(depth, _)| depth) else {
            continue;
        };
        visible = match visible {
            VisibleMount::One { depth: deepest, .. } | VisibleMount::Several { depth: deepest }
                if deepest > depth =>
            {
                visible
            }
            VisibleMount::One { depth: deepest, .. } | VisibleMount::Several { depth: deepest }
                if deepest == depth =>
            {
                VisibleMount::Several { depth }
            }
            _ => VisibleMount::One { mount, depth },
        };
    }
    visible
}

/// The part of the volume that a mount shows; `None` if it depends on variables or leads upwards.
fn mounted_part<'m>(mount: &'m VolumeMount<'_>) -> Option<Path<'m>> {
    mount.sub_path_expr.is_empty().then(|| Path::in_volume(&mount.sub_path))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::settings::Settings;

    #[test]
    fn finds_a_token_by_the_volume_mounted_at_its_path() {
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
        let prepared = Prepared::new(Settings::default());
        let tokens = Tokens::of_pod(&pod, &prepared, None);
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
}
