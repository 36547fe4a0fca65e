//! The name of a pod's role session.

use std::fmt;

use crate::identity::{ClusterName, Pod};

/// The name of a session: 2 to 64 characters of `[\w+=,.@-]` (STS AssumeRole, `RoleSessionName`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionName(String);

impl SessionName {
    /// Maximum length of STS, in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Makes the name `eks-<cluster>-<pod>-<unique>`, as EKS Auth does (its API model, `assumeRoleId`). `unique` is a
    /// random UUID or the pod's UID. With the UID the name stays the same through renewals, which some services
    /// require.
    ///
    /// A UUID leaves 22 characters for cluster and pod. They share them evenly, and unused characters of one go to the
    /// other. Of `unique`, the first 36 characters that STS allows are used.
    pub fn for_pod(cluster: &ClusterName, pod: &Pod, unique: &str) -> Self {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(*c);
        let unique: String = unique.chars().filter(allowed).take(36).collect();
        let (cluster, pod) = (cluster.as_str(), pod.name.as_str());
        let room = Self::MAX_LENGTH - "eks---".len() - unique.len();
        let of_cluster = cluster.len().min((room / 2).max(room.saturating_sub(pod.len())));
        let cluster = &cluster[..cluster.floor_char_boundary(of_cluster)];
        let pod = &pod[..pod.floor_char_boundary(room - cluster.len())];
        Self(format!("eks-{cluster}-{pod}-{unique}"))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "0b0f5d3c-4c63-4c0e-9a55-3f2f6f0a9d11";

    fn name(cluster: &str, pod: &str) -> String {
        let pod = Pod { name: pod.parse().unwrap(), uid: UUID.parse().unwrap() };
        SessionName::for_pod(&cluster.parse().unwrap(), &pod, UUID).to_string()
    }

    #[test]
    fn short_names_stay_whole_and_long_names_are_cut_evenly() {
        assert_eq!(name("demo", "cart-1"), format!("eks-demo-cart-1-{UUID}"));
        assert_eq!(
            name("a-long-cluster-name", "a-long-pod-name"),
            format!("eks-a-long-clus-a-long-pod--{UUID}")
        );
        assert_eq!(name("c", "a-very-long-pod-name-in"), format!("eks-c-a-very-long-pod-name--{UUID}"));
        assert_eq!(name("a-very-long-cluster-na", "p"), format!("eks-a-very-long-cluster-n-p-{UUID}"));
    }

    proptest! {
        #[test]
        fn accepts_any_unique_text(unique in any::<String>()) {
            let pod = Pod { name: "cart-1".parse().unwrap(), uid: UUID.parse().unwrap() };
            let name = SessionName::for_pod(&"demo".parse().unwrap(), &pod, &unique);
            prop_assert!((2..=64).contains(&name.as_str().len()));
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)));
        }

        #[test]
        fn every_name_is_valid_for_sts(
            cluster in "[0-9A-Za-z][A-Za-z0-9._-]{0,99}",
            pod in "[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?(\\.[a-z0-9]{1,30}){0,3}",
            uid in "[a-z0-9-]{1,36}",
        ) {
            let pod = Pod { name: pod.parse().unwrap(), uid: uid.parse().unwrap() };
            let name = SessionName::for_pod(&cluster.parse().unwrap(), &pod, &uid);
            prop_assert!((2..=64).contains(&name.as_str().len()));
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)));
            prop_assert!(name.as_str().ends_with(&uid));
        }
    }
}
