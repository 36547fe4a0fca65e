//! The method and role that a pod or container gets.

use std::borrow::Cow;

use super::env;
use super::expansion::literal;
use super::method::Method;
use super::names;
use super::pod::Pod;
use super::prepared::Prepared;
use super::service_account::{Role, ServiceAccountFacts};
use crate::arn::RoleArn;

/// A [`Method`] with the role that it needs.
///
/// [`Injector::variables`](super::Injector::variables) returns its variables for a process that runs outside of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grant<'a> {
    /// Pod Identity. The agent finds the role.
    PodIdentity,
    /// IRSA by a call of the agent.
    ThroughAgent(&'a RoleArn),
    /// IRSA by a call of the SDK.
    WebIdentity(&'a Role),
}

impl<'a> Grant<'a> {
    /// Returns the method.
    pub fn method(self) -> Method {
        match self {
            Self::PodIdentity => Method::PodIdentity,
            Self::ThroughAgent(_) => Method::ThroughAgent,
            Self::WebIdentity(_) => Method::WebIdentity,
        }
    }

    /// Returns the grant for the containers of a pod that have no role of their own.
    pub(super) fn of_pod(pod: &Pod<'_>, facts: &'a ServiceAccountFacts) -> Option<Self> {
        // A pod's own label takes precedence over its namespace's.
        let always = pod.label(names::INJECT).map_or(facts.namespace.inject, |value| value == "enabled");
        if facts.associated || always {
            return Some(Self::PodIdentity);
        }
        facts.settings.role.as_ref().map(|role| Self::of_role(role, facts))
    }

    /// Returns the grant for a role of IRSA.
    pub(super) fn of_role(role: &'a Role, facts: &ServiceAccountFacts) -> Self {
        match role {
            Role::Arn(arn) if facts.settings.through_agent => Self::ThroughAgent(arn),
            role => Self::WebIdentity(role),
        }
    }

    /// Returns the role, as the service account or pod has it.
    pub(super) fn role(self) -> Option<&'a str> {
        match self {
            Self::PodIdentity => None,
            Self::ThroughAgent(arn) => Some(arn.as_str()),
            Self::WebIdentity(role) => Some(role.as_str()),
        }
    }

    /// Returns the two variables of the method: the role or the agent's address, and the token file.
    pub(super) fn variables<'v>(
        self,
        token_file: &'v str,
        prepared: &'v Prepared,
    ) -> [(&'static str, Cow<'v, str>); 2]
    where
        'a: 'v,
    {
        let token_file = Cow::Borrowed(token_file);
        match self {
            Self::PodIdentity => {
                let uri = Cow::Borrowed(&*prepared.settings.full_uri);
                [(env::FULL_URI, uri), (env::TOKEN_FILE, token_file)]
            }
            Self::ThroughAgent(role) => {
                let uri = Cow::Owned(prepared.settings.role_uri(role));
                [(env::FULL_URI, uri), (env::TOKEN_FILE, token_file)]
            }
            Self::WebIdentity(role) => {
                let role = Cow::Borrowed(role.as_str());
                [(env::ROLE_ARN, role), (env::WEB_IDENTITY_TOKEN_FILE, token_file)]
            }
        }
    }

    /// Returns whether `value` is the value of the grant's first variable.
    pub(super) fn is_first_value(self, value: &str, prepared: &Prepared) -> bool {
        let [(_, expected), _] = self.variables("", prepared);
        value == literal(&expected)
    }
}

/// Returns the role that an annotation of the pod gives a container. The role's trust policy decides whether the service
/// account may assume it, as for every role of IRSA, so the annotation adds no right.
pub(super) fn container_role(pod: &Pod<'_>, container: &str, prepared: &Prepared) -> Option<Role> {
    if !pod.has_container_roles() {
        return None;
    }
    let key = [names::CONTAINER_ROLE, container].concat();
    Role::parse(pod.annotation(&key)?, &prepared.settings)
}
