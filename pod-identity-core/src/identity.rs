//! Names of clusters, namespaces, service accounts, pods and nodes, each of its own type.
//!
//! A name is checked when it is parsed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Quoted;

/// A name that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a valid {kind}: {rule}", Quoted(.text))]
pub struct InvalidName {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

/// RFC 1123 label, as Kubernetes wants it for namespaces.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && is_label_text(text)
}

/// RFC 1123 subdomain, as Kubernetes wants it for pods, service accounts and nodes.
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

/// EKS's pattern for a cluster name (API reference, *CreateCluster*), 1 to 100 characters
/// `[0-9A-Za-z][A-Za-z0-9\-_]*`, and dots: clusters that are not EKS are often named by a DNS name (kops asks for one;
/// Cluster API takes any RFC 1123 subdomain). Dots fit everything that holds the name: a path segment (it begins with
/// a letter or digit, so it is neither `.` nor `..`), STS's `RoleSessionName` and `ExternalId`, a session tag, an ARN.
fn is_cluster_name(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Kubernetes makes UIDs of 36 characters, kubelet 32 for static pods; a session name has room for no more.
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

        #[doc(hidden)] // serde's
        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                if $check(&text) { Ok(Self(text)) } else { Err(InvalidName { text, kind: $kind, rule: $rule }) }
            }
        }

        #[doc(hidden)] // serde's
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
    /// The name of a cluster. EKS Auth takes it in the path of its one operation, without dots; `pod-identity-auth`
    /// takes dots too.
    ClusterName, "cluster name", is_cluster_name,
        "1 to 100 letters, digits, '-', '_' or '.', the first a letter or digit";
    /// The name of a Kubernetes namespace (RFC 1123 label).
    Namespace, "namespace", is_label,
        "1 to 63 lower-case letters, digits or '-', not at an edge '-'";
    /// The name of a Kubernetes service account (RFC 1123 subdomain).
    ServiceAccount, "service account name", is_subdomain,
        "1 to 253 lower-case letters, digits, '-' or '.', as RFC 1123 says";
    /// The name of a pod (RFC 1123 subdomain).
    PodName, "pod name", is_subdomain,
        "1 to 253 lower-case letters, digits, '-' or '.', as RFC 1123 says";
    /// The name of a node (RFC 1123 subdomain).
    NodeName, "node name", is_subdomain,
        "1 to 253 lower-case letters, digits, '-' or '.', as RFC 1123 says";
    /// The UID of a Kubernetes object: never used twice, unlike its name.
    Uid, "UID", is_uid,
        "1 to 36 letters, digits or '-'";
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Name. A later pod may have the same name.
    pub name: PodName,
    /// UID. No other pod has it, ever.
    pub uid: Uid,
}

/// The node that a token's pod runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// Name.
    pub name: NodeName,
    /// UID. API servers before Kubernetes 1.32 may leave it out.
    pub uid: Option<Uid>,
}

/// The pod that a token belongs to, with its service account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadIdentity {
    /// Issuer of the token. Two clusters may have the same names, but not the same issuer and keys.
    pub issuer: String,
    /// Namespace of the pod.
    pub namespace: Namespace,
    /// Service account of the pod.
    pub service_account: ServiceAccount,
    /// UID of the service account. A service account that is created again under an old name is another one.
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
    fn names_follow_the_rules_of_kubernetes() {
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
    fn uids_are_kubernetes_or_kubelets() {
        for good in ["9e3a3f5e-0000-4000-8000-000000000002", "0123456789abcdef0123456789abcdef", "A"] {
            assert!(good.parse::<Uid>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", "a b", "a/b", "a_b", "ä", &"a".repeat(37)] {
            assert!(bad.parse::<Uid>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn the_subject_names_namespace_and_account() {
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
    fn cluster_names_follow_the_rules_of_eks_and_may_have_dots() {
        for good in ["Prod_1-b", "k8s.example.com", "a..b"] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", "-a", "_a", ".a", "..", ".", "a/b", "ä", &"a".repeat(101)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?} was accepted");
        }
    }
}
