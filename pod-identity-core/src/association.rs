//! An association gives the pods of one service account a role.

mod table;

pub use table::{AssociationTable, LookupError, TableError};

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::arn::RoleArn;
use crate::cluster::Cluster;
use crate::identity::{Namespace, ServiceAccount};

/// An association's id: `a-` and lower-case letters and digits (17 of them, where EKS makes it).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AssociationId(String);

/// A text that is no association id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an association id: \"a-\" and 1 to 61 lower-case letters or digits")]
pub struct InvalidAssociationId(String);

impl AssociationId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AssociationId {
    type Err = InvalidAssociationId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.strip_prefix("a-").is_some_and(|rest| {
            (1..=61).contains(&rest.len())
                && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        });
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidAssociationId(text.to_owned())) }
    }
}

impl fmt::Display for AssociationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A role for the pods of one service account, with the members of EKS's `PodIdentityAssociation`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Association {
    /// Its id.
    pub id: AssociationId,
    /// The pods' namespace.
    pub namespace: Namespace,
    /// The pods' service account.
    pub service_account: ServiceAccount,
    /// The role they get.
    pub role: RoleArn,
    /// A second role, assumed with the first one; then the pods get this one.
    pub target_role: Option<RoleArn>,
    /// Whether the six session tags are left out.
    pub disable_session_tags: bool,
    /// An inline session policy, as JSON. It needs `disable_session_tags`; with a target role it
    /// restricts only that role's session.
    pub policy: Option<String>,
    /// How long a session lasts. `None` asks for [`Association::DEFAULT_DURATION`].
    pub duration: Option<Duration>,
}

/// Why an association cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAssociation {
    /// The external id of a target role is made of region and account.
    #[error("targetRoleArn needs the cluster's region and accountId: its external id is made of them")]
    TargetWithoutLocation,
    /// EKS's rule for `policy`.
    #[error("policy needs disableSessionTags: true")]
    PolicyWithTags,
    /// A session policy that STS would refuse.
    #[error("policy is not a JSON object of at most {} characters: {reason}", Association::MAX_POLICY)]
    Policy {
        /// What is wrong with it.
        reason: String,
    },
    /// A duration that STS would refuse.
    #[error("durationSeconds must be 900 to 43200, with targetRoleArn at most 3600 (role chaining)")]
    Duration,
}

impl Association {
    /// STS's default for `DurationSeconds`, and the most for a chained role: one hour.
    pub const DEFAULT_DURATION: Duration = Duration::from_secs(3600);

    /// The longest inline session policy, in characters (STS AssumeRole, `Policy`).
    pub const MAX_POLICY: usize = 2048;

    /// The plainest association: one role, with session tags.
    pub fn new(
        id: AssociationId,
        namespace: Namespace,
        service_account: ServiceAccount,
        role: RoleArn,
    ) -> Self {
        Self {
            id,
            namespace,
            service_account,
            role,
            target_role: None,
            disable_session_tags: false,
            policy: None,
            duration: None,
        }
    }

    /// Checks what EKS checks when an association is made, and what STS would refuse at each use.
    ///
    /// # Errors
    /// [`InvalidAssociation`] for the first rule that is broken.
    pub fn check(&self, cluster: &Cluster) -> Result<(), InvalidAssociation> {
        if self.target_role.is_some() && cluster.external_id(&self.namespace, &self.service_account).is_none()
        {
            return Err(InvalidAssociation::TargetWithoutLocation);
        }
        let longest = if self.target_role.is_some() { 3600 } else { 43_200 };
        if self.duration.is_some_and(|duration| !(900..=longest).contains(&duration.as_secs())) {
            return Err(InvalidAssociation::Duration);
        }
        let Some(policy) = &self.policy else { return Ok(()) };
        if !self.disable_session_tags {
            return Err(InvalidAssociation::PolicyWithTags);
        }
        check_policy(policy).map_err(|reason| InvalidAssociation::Policy { reason })
    }
}

fn check_policy(policy: &str) -> Result<(), String> {
    let length = policy.chars().count();
    if length > Association::MAX_POLICY {
        return Err(format!("it has {length} characters"));
    }
    // Character set of STS's Policy parameter.
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{ff}');
    if let Some(other) = policy.chars().find(|c| !allowed(*c)) {
        return Err(format!("it has the character {other:?}"));
    }
    crate::json::from_slice::<serde_json::Map<String, serde_json::Value>>(policy.as_bytes())
        .map(drop)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cart() -> Association {
        Association::new(
            "a-1".parse().unwrap(),
            "shop".parse().unwrap(),
            "cart".parse().unwrap(),
            "arn:aws:iam::111122223333:role/cart".parse().unwrap(),
        )
    }

    fn cluster() -> Cluster {
        Cluster::new("demo".parse().unwrap()).in_region("eu-west-1", "111122223333".parse().unwrap())
    }

    #[test]
    fn an_id_is_a_dash_and_lower_case_letters_or_digits() {
        let longest = format!("a-{}", "z".repeat(61));
        for good in ["a-0", "a-zx30b7mym3vqbwktf", &longest] {
            assert_eq!(good.parse::<AssociationId>().unwrap().as_str(), good);
        }
        for bad in ["", "a-", "a", "b-1", "a-A", "a-1_", &format!("{longest}z")] {
            assert!(bad.parse::<AssociationId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_target_role_needs_the_clusters_region_and_account() {
        let with_target = Association { target_role: Some(cart().role), ..cart() };
        assert_eq!(with_target.check(&cluster()), Ok(()));
        assert_eq!(
            with_target.check(&Cluster::new("demo".parse().unwrap())),
            Err(InvalidAssociation::TargetWithoutLocation)
        );
    }

    #[test]
    fn a_policy_needs_session_tags_disabled_and_must_be_json() {
        let policy = |text: &str, disable_session_tags| {
            Association { policy: Some(text.to_owned()), disable_session_tags, ..cart() }.check(&cluster())
        };
        assert_eq!(policy("{}", false), Err(InvalidAssociation::PolicyWithTags));
        assert_eq!(policy("{}", true), Ok(()));
        assert_eq!(policy(&format!("{{{}}}", " ".repeat(2046)), true), Ok(()), "2,048 characters");
        for text in
            ["", "[]", "{", r#"{"a":1,"a":2}"#, "{\"a\":\"\u{2014}\"}", &format!("{{{}}}", " ".repeat(2047))]
        {
            assert!(matches!(policy(text, true), Err(InvalidAssociation::Policy { .. })), "{text}");
        }
    }

    #[test]
    fn durations_stay_within_what_sts_grants() {
        let lasting = |seconds, target_role| {
            let duration = Some(Duration::from_secs(seconds));
            Association { duration, target_role, ..cart() }.check(&cluster()).is_ok()
        };
        assert!(lasting(900, None) && lasting(43_200, None) && lasting(3600, Some(cart().role)));
        assert!(!lasting(899, None) && !lasting(43_201, None) && !lasting(3601, Some(cart().role)));
    }
}
