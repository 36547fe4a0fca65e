//! A policy that has been read: its statements, ready to be asked.

use std::fmt;

use super::condition::Condition;
use super::document::PolicyDocument;
use super::error::{PolicyError, Problem};
use super::pattern;
use super::principal::Named;
use super::read::{self, Kind};

/// The length of a trust policy that every account has: characters without white space
/// (*IAM and AWS STS quotas*, "role trust policy length").
pub const TRUST_POLICY_LENGTH: usize = 2_048;
/// The length that this quota may be raised to.
pub const TRUST_POLICY_LENGTH_MAX: usize = 8_192;
/// The length of all inline policies of a role together, hence of one (*IAM and AWS STS quotas*).
pub const IDENTITY_POLICY_LENGTH: usize = 10_240;

/// What may be asked of a role, by the name that policies use.
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
    /// Every action that a decision can be about.
    pub const ALL: [Self; 4] =
        [Self::AssumeRole, Self::AssumeRoleWithWebIdentity, Self::TagSession, Self::SetSourceIdentity];

    /// The action's name in policies and in AWS's messages.
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

/// What a statement does when it applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It allows, unless a denying statement applies as well.
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

/// A role's trust policy, or a policy that says what its holder may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

impl Policy {
    /// Reads a role's trust policy of at most [`TRUST_POLICY_LENGTH`] characters.
    ///
    /// # Errors
    ///
    /// Text that IAM refuses as a trust policy, or whose conditions are not understood here.
    pub fn trust(json: &str) -> Result<Self, PolicyError> {
        Self::trust_of(&PolicyDocument::from_json(json)?, TRUST_POLICY_LENGTH)
    }

    /// Reads a role's trust policy where the account's quota for its length may have been raised.
    ///
    /// # Errors
    ///
    /// As [`Policy::trust`].
    pub fn trust_of(document: &PolicyDocument, limit: usize) -> Result<Self, PolicyError> {
        within(document, limit)?;
        read::policy(&document.root, Kind::Trust)
    }

    /// Reads a policy that says what a user, a role or a session may do.
    ///
    /// # Errors
    ///
    /// Text that IAM refuses as an identity policy. A condition key or a policy variable that is not
    /// understood is refused in statements that can concern an [`Action`] and kept unread in others
    /// (those about S3, say): they decide nothing here.
    pub fn identity(json: &str) -> Result<Self, PolicyError> {
        Self::identity_of(&PolicyDocument::from_json(json)?)
    }

    /// Reads a policy that says what a user, a role or a session may do.
    ///
    /// # Errors
    ///
    /// As [`Policy::identity`].
    pub fn identity_of(document: &PolicyDocument) -> Result<Self, PolicyError> {
        within(document, IDENTITY_POLICY_LENGTH)?;
        read::policy(&document.root, Kind::Identity)
    }
}

fn within(document: &PolicyDocument, limit: usize) -> Result<(), PolicyError> {
    if document.length() > limit {
        return Err(PolicyError::new("", Problem::Length { length: document.length(), limit }));
    }
    Ok(())
}

/// One statement of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    /// `None` in an identity policy.
    pub(super) principals: Option<Vec<Named>>,
    pub(super) actions: Patterns,
    /// `None` in a trust policy: the resource is the role that carries it.
    pub(super) resources: Option<Patterns>,
    pub(super) conditions: Vec<Condition>,
}

/// The values of `Action` or `Resource`, or of `NotAction` or `NotResource`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patterns {
    pub(super) texts: Vec<String>,
    pub(super) inverted: bool,
}

impl Patterns {
    /// The patterns for a message; inverted ones say so.
    pub(super) fn described(&self) -> Vec<String> {
        let not = if self.inverted { "all but " } else { "" };
        self.texts.iter().map(|text| format!("{not}{text}")).collect()
    }

    /// Whether an action fits. Its service and its name are compared without case.
    pub(super) fn fit_action(&self, action: Action) -> bool {
        let action = action.as_str().to_ascii_lowercase();
        let fits = self.texts.iter().any(|text| pattern::matches(&text.to_ascii_lowercase(), &action));
        fits != self.inverted
    }

    /// Whether a resource fits. Parts that an ARN lacks at its end stand for `*` (*Resource*,
    /// "incomplete ARN").
    pub(super) fn fit_resource(&self, arn: &str) -> bool {
        let fits = self.texts.iter().any(|text| {
            let missing = 5usize.saturating_sub(text.matches(':').count());
            text == "*" || pattern::matches_arn(&format!("{text}{}", ":*".repeat(missing)), arn)
        });
        fits != self.inverted
    }
}
