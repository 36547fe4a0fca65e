//! The authenticated caller of a request, with the state of its session.

use pod_identity_core::trust::{Caller, Policy};

use crate::fixture::{Fixture, FixtureCaller};
use crate::tags::Tags;

/// A caller with the session state that the next session inherits or that policies evaluate.
#[derive(Debug, Clone)]
pub(super) struct Principal {
    pub(super) caller: Caller,
    /// The identity policies of a user. The fixture has those of a role.
    pub(super) user_policies: Vec<Policy>,
    /// The session policies; `None` if none were passed.
    pub(super) session_policies: Option<Vec<Policy>>,
    /// The session's tags, without the tags of its role.
    pub(super) tags: Tags,
    /// Keys of the transitive tags.
    pub(super) transitive: Vec<String>,
    pub(super) source_identity: Option<String>,
    pub(super) source_account: Option<String>,
    pub(super) source_arn: Option<String>,
    /// The callers that assumed roles up to this session, the first caller first, this session last.
    pub(super) chain: Vec<String>,
    /// The AWS account in the response of `GetCallerIdentity`.
    pub(super) account: String,
}

impl Principal {
    pub(super) fn from_fixture(known: &FixtureCaller, fixture: &Fixture) -> Self {
        let account = match known.caller.account() {
            Some(account) => account.to_string(),
            // A service has no AWS account; the source account is the nearest value.
            None => known
                .source_account
                .clone()
                .or_else(|| fixture.accounts().next().map(ToString::to_string))
                .unwrap_or_default(),
        };
        Self {
            caller: known.caller.clone(),
            user_policies: known.permissions.clone(),
            session_policies: None,
            tags: known.tags.clone(),
            transitive: known.transitive_tag_keys.clone(),
            source_identity: None,
            source_account: known.source_account.clone(),
            source_arn: known.source_arn.clone(),
            chain: vec![known.caller.to_string()],
            account,
        }
    }

    /// Returns the identity policies of the user or of the session's role.
    pub(super) fn policies<'a>(&'a self, fixture: &'a Fixture) -> &'a [Policy] {
        match &self.caller {
            Caller::Session { role, .. } => {
                fixture.role(role).map_or(&[], |role| role.permissions.as_slice())
            }
            _ => &self.user_policies,
        }
    }

    /// Returns the tags of `aws:PrincipalTag`. Tags of the session override those of its role.
    pub(super) fn principal_tags(&self, fixture: &Fixture) -> Tags {
        let mut tags = match &self.caller {
            Caller::Session { role, .. } => {
                fixture.role(role).map(|role| role.tags.clone()).unwrap_or_default()
            }
            _ => Tags::default(),
        };
        for (key, value) in self.tags.iter() {
            tags.insert(key, value);
        }
        tags
    }

    /// Whether the caller is a role session. Then it assumes a role by role chaining.
    pub(super) fn is_session(&self) -> bool {
        matches!(self.caller, Caller::Session { .. })
    }
}
