//! Decisions, with a message for people and a code for programs.

use std::fmt;

use super::action::{Action, Effect};
use crate::arn::RoleArn;

/// The decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// All needed actions are allowed.
    Allowed,
    /// An action is not allowed.
    Denied(Denial),
}

impl Decision {
    /// Returns whether all needed actions are allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }

    /// Returns the denial, if there is one.
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

/// The first action that is not allowed, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The action.
    pub action: Action,
    /// The role.
    pub role: RoleArn,
    /// The caller, as in AWS's messages.
    pub caller: String,
    /// The reason.
    pub reason: Reason,
}

impl Denial {
    /// Returns a stable code for logs, metrics and tests.
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

    /// Returns the deciding statement: the one that denies, or the nearest allowing one.
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
                    "the trust policy requires that the caller's own policies allow it (it names an account, \
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

/// The reason why an action is not allowed, with the deciding statement.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A statement of the trust policy denies the action.
    TrustExplicitDeny(Verdict),
    /// No statement of the trust policy allows the action. It contains the nearest allowing statement, if any.
    TrustNoStatement(Option<Verdict>),
    /// A statement of the caller's identity policies denies the action.
    IdentityExplicitDeny(Verdict),
    /// The trust policy requires that the caller's identity policies allow the action, and none does.
    IdentityPolicyMissing(Option<Verdict>),
    /// A statement of the caller's session policies denies the action.
    SessionExplicitDeny(Verdict),
    /// The caller has session policies, and none allows the action.
    SessionPolicyMissing(Option<Verdict>),
}

/// The result of one statement for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The statement.
    pub statement: StatementName,
    /// The effect if the statement applies.
    pub effect: Effect,
    /// The mismatches. The statement applies if there are none.
    pub misses: Vec<Miss>,
}

impl Verdict {
    /// Returns whether the statement applies to the request.
    pub fn applies(&self) -> bool {
        self.misses.is_empty()
    }

    /// Returns the distance of the statement from the request. A mismatch of the principal counts most, then of the
    /// action, then of each condition.
    pub(super) fn distance(&self) -> usize {
        self.misses.iter().map(Miss::weight).sum()
    }
}

/// A statement, by its index in the policy and its `Sid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementName {
    /// Index in the policy, from 0.
    pub index: usize,
    /// `Sid`, if any.
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

/// A mismatch between a statement and the request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Miss {
    /// The statement has other principals.
    Principal {
        /// The principals of the statement.
        wanted: Vec<String>,
        /// The caller.
        actual: String,
    },
    /// The statement has other actions.
    Action {
        /// The actions of `Action` or `NotAction`.
        wanted: Vec<String>,
        /// The action of the request.
        actual: Action,
    },
    /// The statement has other resources.
    Resource {
        /// The resources of `Resource` or `NotResource`.
        wanted: Vec<String>,
        /// The role.
        actual: String,
    },
    /// A condition does not hold.
    Condition {
        /// The condition key.
        key: String,
        /// The operator, with its prefix and suffix.
        operator: String,
        /// The values in the policy.
        wanted: Vec<String>,
        /// The values in the request, or `None` if the key is absent.
        actual: Option<Vec<String>>,
    },
}

impl Miss {
    /// Returns a stable code for logs and tests.
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
