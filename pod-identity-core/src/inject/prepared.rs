//! The settings of an injector, with the texts that depend on them only.

use super::names;
use super::settings::{Settings, TokenProjection};

/// Settings, and texts that are made from them once.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) settings: Settings,
    pub(super) pod_identity: PreparedToken,
    pub(super) web_identity: PreparedToken,
    /// The agent's address for roles of IRSA, without the role.
    pub(super) roles_uri: String,
    /// Keys of annotations of a pod.
    pub(super) skip_containers: String,
    pub(super) token_expiration: String,
}

/// A token projection, and the paths of its file.
#[derive(Debug, Clone)]
pub(super) struct PreparedToken {
    pub(super) projection: TokenProjection,
    linux_file: String,
    windows_file: String,
}

impl Prepared {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            pod_identity: PreparedToken::new(settings.pod_identity.clone()),
            web_identity: PreparedToken::new(settings.web_identity.clone()),
            roles_uri: settings.roles_uri(),
            skip_containers: settings.annotation(names::SKIP_CONTAINERS),
            token_expiration: settings.annotation(names::TOKEN_EXPIRATION),
            settings,
        }
    }
}

impl PreparedToken {
    fn new(projection: TokenProjection) -> Self {
        let (linux_file, windows_file) = (projection.token_file(false), projection.token_file(true));
        Self { projection, linux_file, windows_file }
    }

    /// Returns the path of the token's file, as a container's process sees it.
    pub(super) fn file(&self, is_windows: bool) -> &str {
        if is_windows { &self.windows_file } else { &self.linux_file }
    }
}
