//! Session policies: they take away from a session what its role may do.

use pod_identity_core::arn::{AccountId, RoleArn};
use pod_identity_core::trust::Policy;

use super::error::Refusal;
use super::limits;
use super::query::Form;
use super::validate::Faults;

/// What was passed to limit a session.
#[derive(Default)]
pub(super) struct SessionPolicies {
    /// The inline policy as it was passed.
    pub(super) text: Option<String>,
    /// The managed policies.
    pub(super) arns: Vec<String>,
    inline: Option<Policy>,
}

impl SessionPolicies {
    /// Checks the parameters' form.
    pub(super) fn read(form: &Form, faults: &mut Faults) -> Self {
        let text = form.value("Policy").map(str::to_owned);
        if let Some(text) = &text {
            faults.text("policy", text, limits::POLICY);
        }
        let mut arns = Vec::new();
        for (index, member) in form.list("PolicyArns").into_iter().enumerate() {
            let name = format!("policyArns.{}.member.arn", index + 1);
            let arn = faults.required(&name, member.get("arn").copied(), limits::ARN);
            arns.push(arn.to_owned());
        }
        faults.count("policyArns", arns.len(), limits::POLICY_ARNS);
        Self { text, arns, inline: None }
    }

    /// Reads the policy and checks whose the managed policies are.
    pub(super) fn check(&mut self, role: &RoleArn) -> Result<(), Refusal> {
        for arn in &self.arns {
            if !is_policy_of(arn, role.account()) {
                return Err(Refusal::validation(format!("{arn} is invalid")));
            }
        }
        if let Some(text) = &self.text {
            if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
                return Err(Refusal::malformed_policy("This policy contains invalid Json"));
            }
            let policy = Policy::identity(text)
                .map_err(|error| Refusal::malformed_policy(format!("Syntax errors in policy. ({error})")))?;
            self.inline = Some(policy);
        }
        Ok(())
    }

    /// The policies that the session is evaluated under; `None` where none were passed. What managed
    /// ones say is not known here, so they allow nothing.
    pub(super) fn into_policies(self) -> Option<Vec<Policy>> {
        (self.inline.is_some() || !self.arns.is_empty()).then(|| self.inline.into_iter().collect())
    }
}

/// The role's account's own policies, and those that AWS keeps for everyone.
fn is_policy_of(arn: &str, account: &AccountId) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    matches!(parts[..], ["arn", _, "iam", "", owner, resource]
        if (owner == account.as_str() || owner == "aws")
            && resource.strip_prefix("policy/").is_some_and(|name| !name.is_empty()))
}
