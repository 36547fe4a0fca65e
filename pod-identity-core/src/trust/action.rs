//! The actions and the effects of statements.

use std::fmt;

/// An action on a role, by its name in policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// `sts:AssumeRole`
    AssumeRole,
    /// `sts:AssumeRoleWithWebIdentity`
    AssumeRoleWithWebIdentity,
    /// `sts:TagSession`, needed when the session gets tags, passed or inherited.
    TagSession,
    /// `sts:SetSourceIdentity`, needed when the session gets a source identity.
    SetSourceIdentity,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] =
        [Self::AssumeRole, Self::AssumeRoleWithWebIdentity, Self::TagSession, Self::SetSourceIdentity];

    /// Returns the name in policies and in AWS's messages.
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

/// The effect of a statement that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The statement allows, unless a denying statement applies, too.
    Allow,
    /// The statement denies, also where another one allows.
    Deny,
}
