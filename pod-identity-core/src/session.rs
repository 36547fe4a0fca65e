//! The `AssumeRole` calls for a pod: role, session name, tags and policy.

mod name;
mod packed;
mod tags;

pub use name::SessionName;
#[doc(hidden)] // an estimate for messages
pub use packed::PackedSize;
pub use tags::SessionTag;
#[doc(hidden)] // for the auth service
pub use tags::session_tags;

use std::time::Duration;

use crate::arn::RoleArn;
use crate::association::Association;
use crate::cluster::Cluster;
use crate::identity::WorkloadIdentity;

/// The parameters of one `AssumeRole` call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSession {
    /// The role to assume.
    pub role: RoleArn,
    /// The session's name.
    pub name: SessionName,
    /// Duration of the session.
    pub duration: Duration,
    /// The session tags. All of them are transitive (EKS user guide, *Grant Pods access based on tags*).
    pub tags: Vec<SessionTag>,
    /// Its inline policy.
    pub policy: Option<String>,
    /// The external id, for a target role only.
    pub external_id: Option<String>,
}

/// The `AssumeRole` calls for a pod: one, or two with a target role.
///
/// ```
/// use pod_identity_core::association::Association;
/// use pod_identity_core::cluster::Cluster;
/// use pod_identity_core::identity::{Pod, WorkloadIdentity};
/// use pod_identity_core::session::{SessionName, SessionPlan};
///
/// let cluster = Cluster::new("demo".parse()?);
/// let role = "arn:aws:iam::111122223333:role/cart".parse()?;
/// let association = Association::new("a-1".parse()?, "shop".parse()?, "cart".parse()?, role);
/// let identity = WorkloadIdentity {
///     issuer: "https://oidc.example.com/demo".to_owned(),
///     namespace: "shop".parse()?,
///     service_account: "cart".parse()?,
///     service_account_uid: "7c9e2f8e".parse()?,
///     pod: Pod { name: "cart-0".parse()?, uid: "0a51c5f6".parse()? },
/// };
/// let name = SessionName::for_pod(&cluster.name, &identity.pod, identity.pod.uid.as_str());
/// let plan = SessionPlan::new(&cluster, &association, &identity, name);
/// assert!(plan.role.tags.iter().any(|tag| tag.key == "kubernetes-pod-name" && tag.value == "cart-0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPlan {
    /// The call with the service's own credentials.
    pub role: RoleSession,
    /// The call with the credentials of the first session. The pod gets the credentials of this second session.
    pub target: Option<RoleSession>,
}

impl SessionPlan {
    /// Makes the calls for a pod with an association.
    ///
    /// The second session passes no tags: the tags of the first session are transitive, and STS refuses an inherited
    /// key that is passed again (IAM user guide, *Passing session tags in AWS STS*).
    pub fn new(
        cluster: &Cluster,
        association: &Association,
        identity: &WorkloadIdentity,
        name: SessionName,
    ) -> Self {
        let tags = if association.disable_session_tags { vec![] } else { session_tags(cluster, identity) };
        let duration = association.duration.unwrap_or(Association::DEFAULT_DURATION);
        let (policy, target_policy) = match association.target_role {
            None => (association.policy.clone(), None),
            Some(_) => (None, association.policy.clone()),
        };
        let target = association.target_role.clone().map(|role| RoleSession {
            role,
            name: name.clone(),
            duration: duration.min(Association::DEFAULT_DURATION),
            tags: vec![],
            policy: target_policy,
            external_id: cluster.external_id(&identity.namespace, &identity.service_account),
        });
        let role =
            RoleSession { role: association.role.clone(), name, duration, tags, policy, external_id: None };
        Self { role, target }
    }

    /// Returns the estimated size of the pod's session. With a target role that is the second session, which inherits
    /// the tags of the first one and has the policy. The first session is never larger.
    #[doc(hidden)]
    pub fn packed_size(&self) -> PackedSize {
        let last = self.target.as_ref().unwrap_or(&self.role);
        let tags = self.role.tags.iter().map(|tag| (tag.key, tag.value.as_str()));
        PackedSize::of(tags, last.policy.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Pod;

    fn identity() -> WorkloadIdentity {
        WorkloadIdentity {
            issuer: "https://oidc.pod-identity.test/demo".to_owned(),
            namespace: "shop".parse().unwrap(),
            service_account: "cart".parse().unwrap(),
            service_account_uid: "2f1c".parse().unwrap(),
            pod: Pod { name: "cart-1".parse().unwrap(), uid: "9e3a".parse().unwrap() },
        }
    }

    fn plan(change: impl FnOnce(&mut Association)) -> SessionPlan {
        let cluster =
            Cluster::new("demo".parse().unwrap()).in_region("eu-west-1", "111122223333".parse().unwrap());
        let mut association = Association::new(
            "a-1".parse().unwrap(),
            "shop".parse().unwrap(),
            "cart".parse().unwrap(),
            "arn:aws:iam::111122223333:role/cart".parse().unwrap(),
        );
        change(&mut association);
        let name = SessionName::for_pod(&cluster.name, &identity().pod, "unique");
        SessionPlan::new(&cluster, &association, &identity(), name)
    }

    #[test]
    fn association_without_target_role_is_one_call_with_six_tags() {
        let plan = plan(|_| {});
        assert_eq!(plan.target, None);
        assert_eq!((plan.role.tags.len(), plan.role.duration.as_secs()), (6, 3600));
        assert_eq!((plan.role.policy, plan.role.external_id), (None, None));
    }

    #[test]
    fn target_role_is_second_call_with_derived_external_id_and_no_tags() {
        let target: RoleArn = "arn:aws:iam::444455556666:role/far".parse().unwrap();
        let plan = plan(|association| association.target_role = Some(target.clone()));
        let second = plan.target.unwrap();
        assert_eq!((second.role, second.tags.len()), (target, 0));
        assert_eq!(second.external_id.unwrap(), "eu-west-1/111122223333/demo/shop/cart");
        assert_eq!((plan.role.tags.len(), plan.role.external_id), (6, None));
    }

    #[test]
    fn packed_size_counts_own_or_inherited_tags_and_policy() {
        let plain = plan(|_| {}).packed_size();
        // Short names, and a UID of four characters.
        assert!((40..60).contains(&plain.percent()) && plain.policy_characters == 0, "{plain}");
        let far =
            |a: &mut Association| (a.target_role, a.policy) = (Some(a.role.clone()), Some("{}".to_owned()));
        assert_eq!(plan(far).packed_size(), PackedSize { policy_characters: 2, ..plain });
        assert_eq!(plan(|a| a.disable_session_tags = true).packed_size().percent(), 0);
    }

    #[test]
    fn longest_names_fit_the_limits_of_tags() {
        let longest = |length: usize| "a".repeat(length);
        let identity = WorkloadIdentity {
            namespace: longest(63).parse().unwrap(),
            service_account: longest(253).parse().unwrap(),
            pod: Pod { name: longest(253).parse().unwrap(), uid: longest(36).parse().unwrap() },
            ..identity()
        };
        let cluster = Cluster::new(longest(100).parse().unwrap())
            .in_region("us-isob-east-1", "111122223333".parse().unwrap());
        let tags = session_tags(&cluster, &identity);
        assert_eq!(tags.len(), 6);
        // IAM user guide, *IAM and AWS STS quotas*: 50 tags, keys of 128, values of 256 characters.
        assert!(tags.iter().all(|tag| tag.key.len() <= 128 && tag.value.len() <= 256), "{tags:?}");
        assert!(cluster.external_id(&identity.namespace, &identity.service_account).unwrap().len() <= 1224);
    }

    #[test]
    fn policy_restricts_the_session_that_the_pod_gets() {
        let policy = Some("{}".to_owned());
        let one = plan(|a| (a.policy, a.disable_session_tags) = (policy.clone(), true));
        assert_eq!((one.role.policy, one.role.tags.len()), (policy.clone(), 0));
        let two = plan(|a| (a.policy, a.target_role) = (policy.clone(), Some(a.role.clone())));
        assert_eq!((two.role.policy, two.target.unwrap().policy), (None, policy));
    }
}
