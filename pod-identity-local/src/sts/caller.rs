//! Who a request comes from, with all that its session carries.

use pod_identity_core::trust::{Caller, Policy};

use crate::tags::Tags;
use crate::world::{KnownCaller, World};

/// A caller and what of its session the next role inherits or is judged by.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) caller: Caller,
    /// A user's own policies; those of a role are looked up in the world.
    pub(super) user_policies: Vec<Policy>,
    /// What limits the session, if anything was passed.
    pub(super) session_policies: Option<Vec<Policy>>,
    /// The session's tags, not its role's.
    pub(super) tags: Tags,
    /// Keys of those tags that go along.
    pub(super) transitive: Vec<String>,
    pub(super) source_identity: Option<String>,
    pub(super) source_account: Option<String>,
    pub(super) source_arn: Option<String>,
    /// Who assumed what to get here, the first caller first, this session last.
    pub(super) chain: Vec<String>,
    /// The account that `GetCallerIdentity` tells.
    pub(super) account: String,
}

impl Identity {
    pub(super) fn of_known(known: &KnownCaller, world: &World) -> Self {
        let account = match known.caller.account() {
            Some(account) => account.to_string(),
            // A service has no account; the one it calls for is nearest.
            None => known
                .source_account
                .clone()
                .or_else(|| world.accounts().next().map(ToString::to_string))
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

    /// Its own policies: the user's, or those of the session's role.
    pub(super) fn policies<'a>(&'a self, world: &'a World) -> &'a [Policy] {
        match &self.caller {
            Caller::Session { role, .. } => world.role(role).map_or(&[], |role| role.permissions.as_slice()),
            _ => &self.user_policies,
        }
    }

    /// The tags that `aws:PrincipalTag` sees: the role's, and over them the session's.
    pub(super) fn principal_tags(&self, world: &World) -> Tags {
        let mut tags = match &self.caller {
            Caller::Session { role, .. } => {
                world.role(role).map(|role| role.tags.clone()).unwrap_or_default()
            }
            _ => Tags::default(),
        };
        for (key, value) in self.tags.iter() {
            tags.insert(key, value);
        }
        tags
    }

    /// Whether assuming a role from here is role chaining.
    pub(super) fn is_session(&self) -> bool {
        matches!(self.caller, Caller::Session { .. })
    }
}
