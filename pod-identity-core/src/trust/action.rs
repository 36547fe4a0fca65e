//! The actions and the effects of statements.

use std::fmt;

/// An action on a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// `sts:AssumeRole`
    AssumeRole,
    /// `sts:AssumeRoleWithWebIdentity`
    AssumeRoleWithWebIdentity,
    /// `sts:TagSession`, needed if the session gets passed or inherited tags.
    TagSession,
    /// `sts:SetSourceIdentity`, needed if the session gets a source identity.
    SetSourceIdentity,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] =
        [Self::AssumeRole, Self::AssumeRoleWithWebIdentity, Self::TagSession, Self::SetSourceIdentity];

    /// Returns the name as in policies and in AWS's messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AssumeRole => "sts:AssumeRole",
            Self::AssumeRoleWithWebIdentity => "sts:AssumeRoleWithWebIdentity",
            Self::TagSession => "sts:TagSession",
            Self::SetSourceIdentity => "sts:SetSourceIdentity",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The effect of a matching statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The statement allows, unless another matching statement denies.
    Allow,
    /// The statement denies, even if another statement allows.
    Deny,
}
