//! The authenticated caller of a request.

use std::fmt;

use pod_identity_core::identity::Node;

/// An authenticated agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthenticatedCaller {
    /// The agent signed with a configured key. Its node is not proven.
    Key {
        /// The access key id.
        access_key_id: String,
    },
    /// The agent sent its service account token, which names its node.
    Agent {
        /// The agent's node.
        node: Node,
    },
}

impl AuthenticatedCaller {
    /// Whether the caller proved its node.
    pub fn proves_node(&self) -> bool {
        matches!(self, Self::Agent { .. })
    }
}

impl fmt::Display for AuthenticatedCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { access_key_id } => write!(f, "key {access_key_id}"),
            Self::Agent { node } => write!(f, "agent on {}", node.name),
        }
    }
}
