//! The six session tags of EKS Pod Identity.

use crate::cluster::Cluster;
use crate::identity::WorkloadIdentity;

/// A session tag. Names of Kubernetes have at most 253 characters, so key and value are within the limits of STS (128 and
/// 256 characters).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTag {
    /// The key.
    pub key: &'static str,
    /// The value.
    pub value: String,
}

/// Returns the tags of a pod's session (EKS user guide, *Grant Pods access to AWS resources based on tags*): six, or
/// five if the cluster's region and AWS account are not configured.
pub fn session_tags(cluster: &Cluster, identity: &WorkloadIdentity) -> Vec<SessionTag> {
    let tag = |key, value: &str| SessionTag { key, value: value.to_owned() };
    let mut tags = Vec::with_capacity(6);
    tags.extend(cluster.arn().map(|value| SessionTag { key: "eks-cluster-arn", value }));
    tags.extend([
        tag("eks-cluster-name", cluster.name.as_str()),
        tag("kubernetes-namespace", identity.namespace.as_str()),
        tag("kubernetes-service-account", identity.service_account.as_str()),
        tag("kubernetes-pod-name", identity.pod.name.as_str()),
        tag("kubernetes-pod-uid", identity.pod.uid.as_str()),
    ]);
    tags
}
