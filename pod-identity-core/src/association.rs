//! Associations: roles of service accounts.

mod table;

pub use table::{AssociationTable, LookupError, TableError};

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::arn::RoleArn;
use crate::cluster::Cluster;
use crate::identity::{Namespace, ServiceAccount, WorkloadIdentity};

/// The id of an association: `a-`, then lower-case letters and digits. EKS ids have 17 of them.
///
/// ```
/// let id: pod_identity_core::association::AssociationId = "a-0123456789abcdefg".parse()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AssociationId(String);

/// Error of parsing an association id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an association id: \"a-\" and 1 to 61 lower-case letters or digits")]
pub struct InvalidAssociationId(String);

impl AssociationId {
    /// Returns the id as text.
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

/// The role of one service account, with the fields of EKS's `PodIdentityAssociation`.
///
/// ```
/// use std::time::Duration;
///
/// use pod_identity_core::association::Association;
///
/// let (id, role) = ("a-1".parse()?, "arn:aws:iam::111122223333:role/cart".parse()?);
/// let mut cart = Association::new(id, "shop".parse()?, "cart".parse()?, role);
/// cart.duration = Some(Duration::from_secs(1800));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Association {
    /// Association id.
    pub id: AssociationId,
    /// Namespace of the pods.
    pub namespace: Namespace,
    /// Service account of the pods.
    pub service_account: ServiceAccount,
    /// Role of the pods.
    pub role: RoleArn,
    /// A second role, assumed with the credentials of the first one. Pods get credentials of the second role.
    pub target_role: Option<RoleArn>,
    /// Whether the six session tags are omitted.
    pub disable_session_tags: bool,
    /// Inline session policy, as JSON. It needs `disable_session_tags`. With a target role it restricts only the
    /// session of that role.
    pub policy: Option<String>,
    /// Duration of a session; default [`Association::DEFAULT_DURATION`].
    pub duration: Option<Duration>,
}

/// Error of [`Association::check`]: the first broken rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct InvalidAssociation(Broken);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Broken {
    #[error(
        "targetRoleArn needs the cluster's region and accountId: the external id of the target role contains them"
    )]
    TargetWithoutLocation,
    #[error("policy needs disableSessionTags: true")]
    PolicyWithTags,
    #[error("policy is not a JSON object of at most {} characters: {reason}", Association::MAX_POLICY)]
    Policy { reason: String },
    #[error("durationSeconds must be 900 to 43200, with targetRoleArn at most 3600 (role chaining)")]
    Duration,
}

impl Association {
    /// Default duration of a session, and maximum for a chained role: one hour (STS, `DurationSeconds`).
    pub const DEFAULT_DURATION: Duration = Duration::from_secs(3600);

    /// Maximum length of an inline session policy, in characters (STS AssumeRole, `Policy`).
    #[doc(hidden)]
    pub const MAX_POLICY: usize = 2048;

    /// Makes an association with one role and session tags.
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

    /// Makes an association with the default settings for the service account of a pod. It is for stores without
    /// association ids.
    pub fn for_pod(pod: &WorkloadIdentity, role: RoleArn) -> Self {
        let id = AssociationId("a-0".to_owned());
        Self::new(id, pod.namespace.clone(), pod.service_account.clone(), role)
    }

    /// Checks the rules of EKS for associations, and the rules of STS for role sessions.
    ///
    /// # Errors
    /// [`InvalidAssociation`] for the first broken rule.
    pub fn check(&self, cluster: &Cluster) -> Result<(), InvalidAssociation> {
        if self.target_role.is_some() && cluster.external_id(&self.namespace, &self.service_account).is_none()
        {
            return Err(InvalidAssociation(Broken::TargetWithoutLocation));
        }
        let longest = if self.target_role.is_some() { 3600 } else { 43_200 };
        if self.duration.is_some_and(|duration| !(900..=longest).contains(&duration.as_secs())) {
            return Err(InvalidAssociation(Broken::Duration));
        }
        let Some(policy) = &self.policy else { return Ok(()) };
        if !self.disable_session_tags {
            return Err(InvalidAssociation(Broken::PolicyWithTags));
        }
        check_policy(policy).map_err(|reason| InvalidAssociation(Broken::Policy { reason }))
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
    fn parses_only_association_ids_of_eks() {
        let longest = format!("a-{}", "z".repeat(61));
        for good in ["a-0", "a-zx30b7mym3vqbwktf", &longest] {
            assert_eq!(good.parse::<AssociationId>().unwrap().as_str(), good);
        }
        for bad in ["", "a-", "a", "b-1", "a-A", "a-1_", &format!("{longest}z")] {
            assert!(bad.parse::<AssociationId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn target_role_needs_region_and_aws_account_of_cluster() {
        let with_target = Association { target_role: Some(cart().role), ..cart() };
        assert_eq!(with_target.check(&cluster()), Ok(()));
        assert_eq!(
            with_target.check(&Cluster::new("demo".parse().unwrap())),
            Err(InvalidAssociation(Broken::TargetWithoutLocation))
        );
    }

    #[test]
    fn policy_needs_disabled_session_tags_and_valid_json() {
        let policy = |text: &str, disable_session_tags| {
            Association { policy: Some(text.to_owned()), disable_session_tags, ..cart() }.check(&cluster())
        };
        assert_eq!(policy("{}", false), Err(InvalidAssociation(Broken::PolicyWithTags)));
        assert_eq!(policy("{}", true), Ok(()));
        assert_eq!(policy(&format!("{{{}}}", " ".repeat(2046)), true), Ok(()), "2,048 characters");
        for text in
            ["", "[]", "{", r#"{"a":1,"a":2}"#, "{\"a\":\"\u{2014}\"}", &format!("{{{}}}", " ".repeat(2047))]
        {
            assert!(matches!(policy(text, true), Err(InvalidAssociation(Broken::Policy { .. }))), "{text}");
        }
    }

    #[test]
    fn duration_stays_within_limits_of_sts() {
        let lasting = |seconds, target_role| {
            let duration = Some(Duration::from_secs(seconds));
            Association { duration, target_role, ..cart() }.check(&cluster()).is_ok()
        };
        assert!(lasting(900, None) && lasting(43_200, None) && lasting(3600, Some(cart().role)));
        assert!(!lasting(899, None) && !lasting(43_201, None) && !lasting(3601, Some(cart().role)));
    }
}
