//! Session policies, which limit the permissions of a session.

use pod_identity_core::arn::{AccountId, RoleArn};
use pod_identity_core::trust::Policy;

use super::error::StsError;
use super::limits;
use super::query::Form;
use super::validate::Violations;

/// The session policies of a request.
#[derive(Default)]
pub(super) struct SessionPolicies {
    /// The inline policy as passed.
    pub(super) text: Option<String>,
    /// The ARNs of the managed policies.
    pub(super) arns: Vec<String>,
    inline: Option<Policy>,
}

impl SessionPolicies {
    /// Reads the parameters and checks their form.
    pub(super) fn read(form: &Form, violations: &mut Violations) -> Self {
        let text = form.value("Policy").map(str::to_owned);
        if let Some(text) = &text {
            violations.text("policy", text, limits::POLICY);
        }
        let mut arns = Vec::new();
        for (index, member) in form.list("PolicyArns").into_iter().enumerate() {
            let name = format!("policyArns.{}.member.arn", index + 1);
            let arn = violations.required(&name, member.get("arn").copied(), limits::ARN);
            arns.push(arn.to_owned());
        }
        violations.count("policyArns", arns.len(), limits::MAX_POLICY_ARNS);
        Self { text, arns, inline: None }
    }

    /// Parses the inline policy and checks the owner of each managed policy.
    pub(super) fn check(&mut self, role: &RoleArn) -> Result<(), StsError> {
        for arn in &self.arns {
            if !is_policy_of(arn, role.account()) {
                return Err(StsError::validation(format!("{arn} is invalid")));
            }
        }
        if let Some(text) = &self.text {
            if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
                return Err(StsError::malformed_policy("This policy contains invalid Json"));
            }
            let policy = Policy::identity(text)
                .map_err(|error| StsError::malformed_policy(format!("Syntax errors in policy. ({error})")))?;
            self.inline = Some(policy);
        }
        Ok(())
    }

    /// Returns the policies that limit the session; `None` if none were passed. Managed policies allow nothing, because
    /// their content is unknown.
    pub(super) fn into_policies(self) -> Option<Vec<Policy>> {
        (self.inline.is_some() || !self.arns.is_empty()).then(|| self.inline.into_iter().collect())
    }
}

/// Whether a policy belongs to the AWS account of the role, or is managed by AWS.
fn is_policy_of(arn: &str, account: &AccountId) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    matches!(parts[..], ["arn", _, "iam", "", owner, resource]
        if (owner == account.as_str() || owner == "aws")
            && resource.strip_prefix("policy/").is_some_and(|name| !name.is_empty()))
}
