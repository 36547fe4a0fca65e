//! The outcome, told so that a person can act on it and a program can count it.

use std::fmt;

use super::policy::{Action, Effect};
use crate::arn::RoleArn;

/// Whether a role may be assumed as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Every action that is needed is allowed.
    Allowed,
    /// One is not.
    Denied(Denial),
}

impl Decision {
    /// Whether the role may be assumed as asked.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }

    /// Why not, if not.
    pub fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Allowed => None,
            Self::Denied(denial) => Some(denial),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Denied(denial) => denial.fmt(f),
        }
    }
}

/// The first action that was not allowed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The action.
    pub action: Action,
    /// The role that it was asked of.
    pub role: RoleArn,
    /// Who asked, as AWS's messages name it.
    pub caller: String,
    /// Why it was not allowed.
    pub reason: Reason,
}

impl Denial {
    /// A word that stays the same between releases, for logs, metrics and tests.
    pub fn code(&self) -> &'static str {
        match &self.reason {
            Reason::TrustExplicitDeny(_) => "trust_explicit_deny",
            Reason::TrustNoStatement(_) => "trust_no_statement",
            Reason::IdentityExplicitDeny(_) => "identity_explicit_deny",
            Reason::IdentityPolicyMissing(_) => "identity_policy_missing",
            Reason::SessionExplicitDeny(_) => "session_explicit_deny",
            Reason::SessionPolicyMissing(_) => "session_policy_missing",
        }
    }

    /// The statement that decided: the one that denies, or the allowing one that came nearest.
    pub fn statement(&self) -> Option<&Verdict> {
        match &self.reason {
            Reason::TrustExplicitDeny(verdict)
            | Reason::IdentityExplicitDeny(verdict)
            | Reason::SessionExplicitDeny(verdict) => Some(verdict),
            Reason::TrustNoStatement(nearest)
            | Reason::IdentityPolicyMissing(nearest)
            | Reason::SessionPolicyMissing(nearest) => nearest.as_ref(),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} may not use {} on {}: ", self.caller, self.action, self.role)?;
        let (whose, nearest) = match &self.reason {
            Reason::TrustExplicitDeny(verdict) => {
                return write!(f, "{} of the role's trust policy denies it", verdict.statement);
            }
            Reason::IdentityExplicitDeny(verdict) => {
                return write!(f, "{} of the caller's own policy denies it", verdict.statement);
            }
            Reason::SessionExplicitDeny(verdict) => {
                return write!(f, "{} of the caller's session policy denies it", verdict.statement);
            }
            Reason::TrustNoStatement(nearest) => ("the role's trust policy", nearest),
            Reason::IdentityPolicyMissing(nearest) => {
                f.write_str(
                    "the trust policy leaves it to the caller's own policies (it names an account, \
                     everyone, or a principal of another account), and ",
                )?;
                ("the caller's own policies", nearest)
            }
            Reason::SessionPolicyMissing(nearest) => ("the caller's session policy", nearest),
        };
        write!(f, "no statement of {whose} allows it")?;
        let Some(verdict) = nearest else { return Ok(()) };
        write!(f, "; {} comes nearest, but ", verdict.statement)?;
        for (index, miss) in verdict.misses.iter().enumerate() {
            if index > 0 {
                f.write_str("; and ")?;
            }
            miss.fmt(f)?;
        }
        Ok(())
    }
}

/// Why an action is not allowed. The statement is the one to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A statement of the trust policy denies it.
    TrustExplicitDeny(Verdict),
    /// No statement of the trust policy allows it; the nearest, if there is an allowing one.
    TrustNoStatement(Option<Verdict>),
    /// A statement of the caller's identity policies denies it.
    IdentityExplicitDeny(Verdict),
    /// The trust policy asks for the caller's identity policies to allow it too, and none does.
    IdentityPolicyMissing(Option<Verdict>),
    /// A statement of the caller's session policies denies it.
    SessionExplicitDeny(Verdict),
    /// The caller has session policies, and none allows it.
    SessionPolicyMissing(Option<Verdict>),
}

/// What one statement says to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which statement.
    pub statement: StatementName,
    /// What it does when it applies.
    pub effect: Effect,
    /// What in it did not match; it applies when nothing is left.
    pub misses: Vec<Miss>,
}

impl Verdict {
    /// Whether the statement has a say in this request.
    pub fn applies(&self) -> bool {
        self.misses.is_empty()
    }

    /// How far the statement is from applying. Another principal is further off than another action,
    /// and that is further off than any number of conditions.
    pub(super) fn distance(&self) -> usize {
        self.misses.iter().map(Miss::weight).sum()
    }
}

/// A statement, by its place in its policy and its `Sid` where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementName {
    /// Its place, from 0.
    pub index: usize,
    /// Its `Sid`.
    pub sid: Option<String>,
}

impl fmt::Display for StatementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sid {
            Some(sid) => write!(f, "statement {} ({sid})", self.index + 1),
            None => write!(f, "statement {}", self.index + 1),
        }
    }
}

/// One thing in a statement that did not match the request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Miss {
    /// It names other principals.
    Principal {
        /// Those it names.
        wanted: Vec<String>,
        /// Who asked.
        actual: String,
    },
    /// It is about other actions.
    Action {
        /// Those of its `Action` or `NotAction`.
        wanted: Vec<String>,
        /// What was asked.
        actual: Action,
    },
    /// It is about other resources.
    Resource {
        /// Those of its `Resource` or `NotResource`.
        wanted: Vec<String>,
        /// The role.
        actual: String,
    },
    /// One of its conditions does not hold.
    Condition {
        /// The condition key.
        key: String,
        /// The operator, with its prefix and suffix.
        operator: String,
        /// The values in the policy.
        wanted: Vec<String>,
        /// The values in the request; `None` where it has no such key.
        actual: Option<Vec<String>>,
    },
}

impl Miss {
    /// A word that stays the same between releases, for logs and tests.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Principal { .. } => "principal",
            Self::Action { .. } => "action",
            Self::Resource { .. } => "resource",
            Self::Condition { .. } => "condition",
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Principal { .. } => 1_000_000,
            Self::Action { .. } | Self::Resource { .. } => 10_000,
            Self::Condition { .. } => 1,
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal { wanted, .. } => write!(f, "it names {}", wanted.join(", ")),
            Self::Action { wanted, .. } => write!(f, "its actions are for {}", wanted.join(", ")),
            Self::Resource { wanted, .. } => write!(f, "its resources are {}", wanted.join(", ")),
            Self::Condition { key, operator, wanted, actual } => {
                write!(f, "{operator} wants {key} to match {}", quoted(wanted))?;
                match actual {
                    Some(values) => write!(f, " and the request has {}", quoted(values)),
                    None => f.write_str(" and the request has none"),
                }
            }
        }
    }
}

fn quoted(texts: &[String]) -> String {
    texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" or ")
}
