//! By which way a container comes to its credentials.

use crate::arn::RoleArn;

use super::env;
use super::method::Method;
use super::pod::Pod;
use super::service_account::{NamespaceSettings, Role, ServiceAccountFacts};
use super::settings::Settings;

/// Annotations of this beginning give the container of the rest's name a role of its own.
pub(super) const ROLE_OF_CONTAINER: &str = "podidentity.dev/role-arn.";

impl Pod<'_> {
    /// Returns whether an annotation of the pod gives a container a role of its own.
    pub fn has_container_roles(&self) -> bool {
        let mut keys = self.metadata.annotations.iter().flat_map(|annotations| annotations.keys());
        keys.any(|key| key.starts_with(ROLE_OF_CONTAINER))
    }
}

/// A way to credentials, with the role where the way does not find it out itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    PodIdentity,
    ThroughAgent(RoleArn),
    WebIdentity(Role),
}

impl Grant {
    pub(super) fn method(&self) -> Method {
        match self {
            Self::PodIdentity => Method::PodIdentity,
            Self::ThroughAgent(_) => Method::ThroughAgent,
            Self::WebIdentity(_) => Method::WebIdentity,
        }
    }

    /// What a pod's containers are given, those with a role of their own apart.
    pub(super) fn of_pod(pod: &Pod<'_>, facts: &ServiceAccountFacts) -> Option<Self> {
        // A pod's own label counts instead of its namespace's.
        let always =
            pod.label(NamespaceSettings::INJECT).map_or(facts.namespace.inject, |word| word == "enabled");
        if facts.associated || always {
            return Some(Self::PodIdentity);
        }
        facts.settings.role.clone().map(|role| Self::of_role(role, facts))
    }

    /// What the container is given by an annotation of its pod. The role's trust policy decides whether the
    /// account may have it, as with every role of IRSA; so the annotation gives nobody more than he had.
    pub(super) fn of_container(
        pod: &Pod<'_>,
        name: &str,
        facts: &ServiceAccountFacts,
        settings: &Settings,
    ) -> Option<Self> {
        let text = pod.annotation(&format!("{ROLE_OF_CONTAINER}{name}"))?;
        Role::parse(text, settings).map(|role| Self::of_role(role, facts))
    }

    fn of_role(role: Role, facts: &ServiceAccountFacts) -> Self {
        match role {
            Role::Arn(arn) if facts.settings.through_agent => Self::ThroughAgent(arn),
            role => Self::WebIdentity(role),
        }
    }

    /// The two variables that lead an SDK to the credentials.
    pub(super) fn variables(&self, token_file: String, settings: &Settings) -> [(&'static str, String); 2] {
        match self {
            Self::PodIdentity => [(env::FULL_URI, settings.full_uri.clone()), (env::TOKEN_FILE, token_file)],
            Self::ThroughAgent(role) => {
                [(env::FULL_URI, settings.role_uri(role)), (env::TOKEN_FILE, token_file)]
            }
            Self::WebIdentity(role) => {
                [(env::ROLE_ARN, role.as_str().to_owned()), (env::WEB_IDENTITY_TOKEN_FILE, token_file)]
            }
        }
    }
}
