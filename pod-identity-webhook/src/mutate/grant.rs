//! By which way a container comes to its credentials.

use std::fmt;

use pod_identity_core::arn::RoleArn;

use super::env;
use crate::account::{Known, NamespaceSettings, Role};
use crate::pod::Pod;
use crate::settings::Settings;

/// Annotations of this beginning give the container of the rest's name a role of its own.
pub(super) const ROLE_OF_CONTAINER: &str = "podidentity.dev/role-arn.";

/// Whether annotations of a pod give containers roles of their own.
pub(crate) fn gives_containers_roles(pod: &Pod<'_>) -> bool {
    let mut keys = pod.metadata.annotations.iter().flat_map(|annotations| annotations.keys());
    keys.any(|key| key.starts_with(ROLE_OF_CONTAINER))
}

/// The ways to credentials, the first that fits being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Pod Identity: the agent, which asks for the role of the association.
    PodIdentity,
    /// IRSA, asked for by the agent.
    ThroughAgent,
    /// IRSA, asked for by the SDK.
    WebIdentity,
}

impl Method {
    /// All that there are.
    pub const ALL: [Self; 3] = [Self::PodIdentity, Self::ThroughAgent, Self::WebIdentity];

    /// The method as a metric's label. The first and the last are the words of AWS's webhook.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PodIdentity => "container_credentials",
            Self::ThroughAgent => "irsa_through_agent",
            Self::WebIdentity => "sts_web_identity",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PodIdentity => "Pod Identity",
            Self::ThroughAgent => "IRSA through the agent",
            Self::WebIdentity => "IRSA",
        })
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
    pub(super) fn of_pod(pod: &Pod<'_>, known: &Known) -> Option<Self> {
        // A pod's own label counts instead of its namespace's.
        let always =
            pod.label(NamespaceSettings::INJECT).map_or(known.namespace.inject, |word| word == "enabled");
        if known.associated || always {
            return Some(Self::PodIdentity);
        }
        known.account.role.clone().map(|role| Self::of_role(role, known))
    }

    /// What the container is given by an annotation of its pod. The role's trust policy decides whether the
    /// account may have it, as with every role of IRSA; so the annotation gives nobody more than he had.
    pub(super) fn of_container(
        pod: &Pod<'_>,
        name: &str,
        known: &Known,
        settings: &Settings,
    ) -> Option<Self> {
        let text = pod.annotation(&format!("{ROLE_OF_CONTAINER}{name}"))?;
        Role::parse(text, settings).map(|role| Self::of_role(role, known))
    }

    fn of_role(role: Role, known: &Known) -> Self {
        match role {
            Role::Arn(arn) if known.account.through_agent => Self::ThroughAgent(arn),
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
