//! Fixes for denials of STS, derived from the reason that the local STS records.

use pod_identity_core::trust::{Denial, Miss, Reason, Verdict};

use crate::fixture::Fixture;
use crate::sts::DenialView;

/// Returns the fix for a denial; `None` if only the general fix of the error code applies.
pub(super) fn for_denial(view: &DenialView, fixture: &Fixture) -> Option<String> {
    let Some(denial) = &view.denial else {
        return (view.code == "role_unknown")
            .then(|| format!("Add {} to roles, or correct the association's roleArn.", view.role_arn));
    };
    let caller = policy_principal(&denial.caller, fixture);
    let (action, role) = (denial.action, &denial.role);
    let denies = |verdict: &Verdict, whose: &str| {
        format!("Take {} out of {whose}, or narrow it: it denies {action}.", verdict.statement)
    };
    match &denial.reason {
        Reason::TrustExplicitDeny(verdict) => Some(denies(verdict, "the role's trust policy")),
        Reason::IdentityExplicitDeny(verdict) => {
            Some(denies(verdict, &format!("the identity policies of {caller}")))
        }
        Reason::SessionExplicitDeny(verdict) => {
            Some(denies(verdict, &format!("the session policy of {}", denial.caller)))
        }
        Reason::TrustNoStatement(None) => {
            Some(format!("Add a statement to the role's trust policy that allows {action} to {caller}."))
        }
        Reason::TrustNoStatement(Some(nearest)) => trust_statement_fix(denial, nearest, &caller),
        Reason::IdentityPolicyMissing(_) => {
            Some(format!("Let an identity policy of {caller} allow {action} on {role}."))
        }
        Reason::SessionPolicyMissing(_) => {
            Some(format!("Let the session policy of {} allow {action} on {role}.", denial.caller))
        }
        _ => None,
    }
}

fn trust_statement_fix(denial: &Denial, nearest: &Verdict, caller: &str) -> Option<String> {
    // The conditions of a statement for another principal do not concern this caller.
    if nearest.misses.iter().any(|miss| matches!(miss, Miss::Principal { .. })) {
        return Some(format!("Let a statement of the role's trust policy name {caller} as Principal."));
    }
    let fixes: Option<Vec<String>> = nearest
        .misses
        .iter()
        .map(|miss| mismatch_fix(denial, &nearest.statement.to_string(), miss))
        .collect();
    fixes.map(|fixes| fixes.join(" "))
}

fn mismatch_fix(denial: &Denial, statement: &str, miss: &Miss) -> Option<String> {
    let action = denial.action;
    match miss {
        // Core describes a `NotAction` with these words. An addition to it would not help.
        Miss::Action { wanted, .. } if wanted.iter().any(|text| text.starts_with("all but ")) => Some(
            format!("Let {statement} of the role's trust policy allow {action}: its NotAction excludes it."),
        ),
        Miss::Action { .. } => {
            Some(format!("Add {action} to the Action of {statement} of the role's trust policy."))
        }
        Miss::Condition { key, operator, actual, .. } => {
            let accepted = match actual {
                Some(_) if operator == "Null" => "a request that has it".to_owned(),
                Some(values) => {
                    values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(" and ")
                }
                None => "a request without it".to_owned(),
            };
            Some(format!(
                "Make the condition {key} of {statement} accept {accepted}, or run the pod where it holds."
            ))
        }
        _ => None,
    }
}

/// Returns the caller as a policy names it: a session's role if the file declares it, else the caller itself.
fn policy_principal(caller: &str, fixture: &Fixture) -> String {
    let of_session = |role: &&crate::fixture::Role| caller.starts_with(&role.arn.session(""));
    fixture.roles().find(of_session).map_or_else(|| caller.to_owned(), |role| role.arn.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::SAMPLE;

    #[test]
    fn fix_for_an_unknown_role_is_to_declare_it() {
        let view = |code| DenialView {
            request_id: String::new(),
            time: String::new(),
            code,
            action: "sts:AssumeRole",
            role_arn: "arn:aws:iam::111122223333:role/none".to_owned(),
            caller: "pods.eks.amazonaws.com".to_owned(),
            explanation: String::new(),
            denial: None,
        };
        let fixture = Fixture::from_yaml(SAMPLE).unwrap();
        let fix = "Add arn:aws:iam::111122223333:role/none to roles, or correct the association's roleArn.";
        assert_eq!(for_denial(&view("role_unknown"), &fixture).as_deref(), Some(fix));
        assert_eq!(for_denial(&view("another"), &fixture), None);
    }
}
