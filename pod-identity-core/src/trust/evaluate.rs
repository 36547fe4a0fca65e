//! The decision (*Policy evaluation logic*): nothing is allowed by default, a denial overrides, and the role's trust
//! policy must always allow.

use super::action::{Action, Effect};
use super::context::Context;
use super::decision::{Decision, Denial, Miss, Reason, StatementName, Verdict};
use super::policy::Policy;
use super::principal::{Caller, PrincipalMatch};
use super::statement::Statement;
use crate::arn::RoleArn;

/// A request to assume a role: the caller, the role and the condition keys. The [module](crate::trust) has an example.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The caller.
    pub caller: &'a Caller,
    /// The role to assume, which is the resource of the request.
    pub role: &'a RoleArn,
    /// The condition keys.
    pub context: &'a Context,
}

/// The caller's own policies. Services and web identities have none.
///
/// ```
/// use pod_identity_core::trust::{Permissions, Policy};
///
/// let may_assume = [Policy::identity(r#"{"Version": "2012-10-17", "Statement": [
///     {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}
/// ]}"#)?];
/// let permissions = Permissions { identity: &may_assume, session: None };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Permissions<'a> {
    /// The identity policies of the caller's user or role.
    pub identity: &'a [Policy],
    /// The session policies of the caller's session, or `None` if it was made without any. They only restrict
    /// (*Session policies*).
    pub session: Option<&'a [Policy]>,
}

/// Decides whether all `actions` are allowed. A denial is about the first action that is not.
pub fn decide(
    trust: &Policy,
    permissions: &Permissions<'_>,
    actions: &[Action],
    request: &Request<'_>,
) -> Decision {
    for action in actions {
        if let Err(reason) = allow(trust, permissions, *action, request) {
            return Decision::Denied(Denial {
                action: *action,
                role: request.role.clone(),
                caller: request.caller.to_string(),
                reason,
            });
        }
    }
    Decision::Allowed
}

fn allow(
    trust: &Policy,
    permissions: &Permissions<'_>,
    action: Action,
    request: &Request<'_>,
) -> Result<(), Reason> {
    let verdicts = trust.verdicts(action, request);
    let identity = all_verdicts(permissions.identity, action, request);
    let session = all_verdicts(permissions.session.unwrap_or_default(), action, request);
    for (verdicts, denies) in [
        (&verdicts, Reason::TrustExplicitDeny as fn(Verdict) -> Reason),
        (&identity, Reason::IdentityExplicitDeny),
        (&session, Reason::SessionExplicitDeny),
    ] {
        if let Some(verdict) = verdicts.iter().find(|v| v.effect == Effect::Deny && v.applies()) {
            return Err(denies(verdict.clone()));
        }
    }
    let applied = verdicts.iter().zip(&trust.statements).filter(|(v, _)| allows(v));
    let Some(principal_match) = applied.filter_map(|(_, statement)| statement.principal_match(request)).max()
    else {
        return Err(Reason::TrustNoStatement(nearest(&verdicts)));
    };
    if principal_match <= PrincipalMatch::NeedsIdentityPolicy && !identity.iter().any(allows) {
        return Err(Reason::IdentityPolicyMissing(nearest(&identity)));
    }
    if principal_match <= PrincipalMatch::LimitedBySessionPolicy
        && permissions.session.is_some()
        && !session.iter().any(allows)
    {
        return Err(Reason::SessionPolicyMissing(nearest(&session)));
    }
    Ok(())
}

fn allows(verdict: &Verdict) -> bool {
    verdict.effect == Effect::Allow && verdict.applies()
}

fn nearest(verdicts: &[Verdict]) -> Option<Verdict> {
    verdicts.iter().filter(|v| v.effect == Effect::Allow).min_by_key(|v| v.distance()).cloned()
}

fn all_verdicts(policies: &[Policy], action: Action, request: &Request<'_>) -> Vec<Verdict> {
    policies.iter().flat_map(|policy| policy.verdicts(action, request)).collect()
}

impl Policy {
    /// Returns the result of each statement, in order.
    #[doc(hidden)]
    pub fn verdicts(&self, action: Action, request: &Request<'_>) -> Vec<Verdict> {
        self.statements
            .iter()
            .enumerate()
            .map(|(index, statement)| Verdict {
                statement: StatementName { index, sid: statement.sid.clone() },
                effect: statement.effect,
                misses: statement.misses(action, request),
            })
            .collect()
    }
}

impl Statement {
    fn misses(&self, action: Action, request: &Request<'_>) -> Vec<Miss> {
        let mut misses = Vec::new();
        if let Some(named) = self.principals.as_ref().filter(|_| self.principal_match(request).is_none()) {
            misses.push(Miss::Principal {
                wanted: named.iter().map(ToString::to_string).collect(),
                actual: request.caller.to_string(),
            });
        }
        if !self.actions.fit_action(action) {
            misses.push(Miss::Action { wanted: self.actions.described(), actual: action });
        }
        let role = request.role.as_str();
        if let Some(resources) = self.resources.as_ref().filter(|r| !r.fit_resource(role)) {
            misses.push(Miss::Resource { wanted: resources.described(), actual: role.to_owned() });
        }
        misses.extend(self.conditions.iter().filter_map(|condition| condition.miss(request.context)));
        misses
    }

    /// Returns how the statement's principals match the caller, or `None` if they do not match.
    fn principal_match(&self, request: &Request<'_>) -> Option<PrincipalMatch> {
        let named = self.principals.as_ref()?;
        named.iter().filter_map(|named| named.principal_match(request.caller, request.role.account())).max()
    }
}
