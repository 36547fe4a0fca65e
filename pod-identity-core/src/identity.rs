//! Names of clusters, namespaces, service accounts, pods and nodes. Each has its own type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Quoted;

/// Error of parsing a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a valid {kind}: {rule}", Quoted(.text))]
pub struct InvalidName {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

/// Whether the text is an RFC 1123 label, as Kubernetes requires for namespaces.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && is_label_text(text)
}

/// Whether the text is an RFC 1123 subdomain, as Kubernetes requires for pods, service accounts and nodes.
fn is_subdomain(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.split('.').all(is_label_text)
}

fn is_label_text(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Whether the text is a cluster name: 1 to 100 characters `[0-9A-Za-z][A-Za-z0-9\-_]*` as EKS requires (API
/// reference, *CreateCluster*), and dots. Clusters outside EKS often have a DNS name: kops requires one, and Cluster
/// API accepts any RFC 1123 subdomain. Every field with the name accepts dots: a path segment (it begins with a letter
/// or digit, so it is neither `.` nor `..`), STS's `RoleSessionName` and `ExternalId`, a session tag, an ARN.
fn is_cluster_name(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Kubernetes makes UIDs of 36 characters, and kubelet makes UIDs of 32 characters for static pods. A session name has
/// no room for longer ones.
fn is_uid(text: &str) -> bool {
    (1..=36).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident, $rule:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// ```
        #[doc = concat!("let name: pod_identity_core::identity::", stringify!($name), " = \"demo\".parse()?;")]
        /// assert_eq!(name.as_str(), "demo");
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        #[doc(hidden)] // for serde
        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                if $check(&text) { Ok(Self(text)) } else { Err(InvalidName { text, kind: $kind, rule: $rule }) }
            }
        }

        #[doc(hidden)] // for serde
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// The name of a cluster. EKS Auth accepts it in the request path, without dots. `pod-identity-auth` also accepts
    /// dots.
    ClusterName, "cluster name", is_cluster_name,
        "1 to 100 letters, digits, '-', '_' or '.', the first a letter or digit";
    /// The name of a Kubernetes namespace (RFC 1123 label).
    Namespace, "namespace", is_label,
        "1 to 63 lower-case letters, digits or '-', no '-' at either end";
    /// The name of a Kubernetes service account (RFC 1123 subdomain).
    ServiceAccount, "service account name", is_subdomain,
        "1 to 253 lower-case letters, digits, '-' or '.' (RFC 1123 subdomain)";
    /// The name of a pod (RFC 1123 subdomain).
    PodName, "pod name", is_subdomain,
        "1 to 253 lower-case letters, digits, '-' or '.' (RFC 1123 subdomain)";
    /// The name of a node (RFC 1123 subdomain).
    NodeName, "node name", is_subdomain,
        "1 to 253 lower-case letters, digits, '-' or '.' (RFC 1123 subdomain)";
    /// The UID of a Kubernetes object. Unlike a name, it is never reused.
    Uid, "UID", is_uid,
        "1 to 36 letters, digits or '-'";
}

/// The pod of a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Name. A later pod may have the same name.
    pub name: PodName,
    /// UID. No other pod ever has it.
    pub uid: Uid,
}

/// The node on which a token's pod runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// Name.
    pub name: NodeName,
    /// UID. API servers before Kubernetes 1.32 may leave it out.
    pub uid: Option<Uid>,
}

/// The pod of a token, with its service account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadIdentity {
    /// Issuer of the token. Two clusters may have pods of the same names, but never the same issuer and keys.
    pub issuer: String,
    /// Namespace of the pod.
    pub namespace: Namespace,
    /// Service account of the pod.
    pub service_account: ServiceAccount,
    /// UID of the service account. A service account that is deleted and created again has another UID.
    pub service_account_uid: Uid,
    /// Name and UID of the pod.
    pub pod: Pod,
}

impl WorkloadIdentity {
    /// Returns the `sub` claim of the pod's tokens: `system:serviceaccount:<namespace>:<name>`.
    pub fn subject(&self) -> String {
        subject(&self.namespace, &self.service_account)
    }
}

impl fmt::Display for WorkloadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, namespace, service_account, service_account_uid, pod } = self;
        let Pod { name, uid } = pod;
        write!(
            f,
            "pod {namespace}/{name} (UID {uid}) with service account {service_account} \
             (UID {service_account_uid}) of issuer {issuer:?}"
        )
    }
}

/// Returns the `sub` claim of the tokens of a service account (kubernetes `pkg/serviceaccount/util.go`).
pub fn subject(namespace: &Namespace, service_account: &ServiceAccount) -> String {
    format!("system:serviceaccount:{namespace}:{service_account}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rules_of_kubernetes() {
        assert!("kube-system".parse::<Namespace>().is_ok());
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<Namespace>().is_err(), "{bad:?} was accepted");
        }
        assert!("web.v1".parse::<ServiceAccount>().is_ok());
        for bad in ["a..b", ".a", "a:b", &"a".repeat(254)] {
            assert!(bad.parse::<ServiceAccount>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn accepts_uids_of_kubernetes_and_kubelet() {
        for good in ["9e3a3f5e-0000-4000-8000-000000000002", "0123456789abcdef0123456789abcdef", "A"] {
            assert!(good.parse::<Uid>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", "a b", "a/b", "a_b", "ä", &"a".repeat(37)] {
            assert!(bad.parse::<Uid>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn subject_has_namespace_and_service_account() {
        let identity = WorkloadIdentity {
            issuer: "https://issuer.test".to_owned(),
            namespace: "shop".parse().unwrap(),
            service_account: "cart".parse().unwrap(),
            service_account_uid: "1".parse().unwrap(),
            pod: Pod { name: "cart-0".parse().unwrap(), uid: "2".parse().unwrap() },
        };
        assert_eq!(identity.subject(), "system:serviceaccount:shop:cart");
    }

    #[test]
    fn cluster_names_follow_rules_of_eks_and_may_have_dots() {
        for good in ["Prod_1-b", "k8s.example.com", "a..b"] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", "-a", "_a", ".a", "..", ".", "a/b", "ä", &"a".repeat(101)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?} was accepted");
        }
    }
}
