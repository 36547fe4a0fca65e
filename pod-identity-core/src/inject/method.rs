//! The methods by which a container gets credentials.

use std::fmt;

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
