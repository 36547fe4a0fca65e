//! Clusters, and their names in AWS.

use crate::arn::{AccountId, Partition};
use crate::identity::{ClusterName, Namespace, ServiceAccount};

/// A cluster: its name, and optionally its region and AWS account. Its ARN and the external ids of target roles
/// contain all three.
///
/// ```
/// use pod_identity_core::cluster::Cluster;
///
/// let cluster = Cluster::new("demo".parse()?).in_region("eu-west-1", "111122223333".parse()?);
/// assert_eq!(cluster.arn().unwrap(), "arn:aws:eks:eu-west-1:111122223333:cluster/demo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// The name that agents send.
    pub name: ClusterName,
    location: Option<(String, AccountId)>,
}

impl Cluster {
    /// Makes a cluster without region and AWS account. Its sessions have no `eks-cluster-arn` tag, and its associations
    /// have no target roles.
    pub fn new(name: ClusterName) -> Self {
        Self { name, location: None }
    }

    /// Sets the region and the AWS account.
    #[must_use]
    pub fn in_region(self, region: &str, account: AccountId) -> Self {
        Self { location: Some((region.to_owned(), account)), ..self }
    }

    /// Returns the ARN of the cluster in the form of EKS: `arn:aws:eks:<region>:<account>:cluster/<name>`.
    pub fn arn(&self) -> Option<String> {
        let (region, account) = self.location.as_ref()?;
        Some(format!("arn:{}:eks:{region}:{account}:cluster/{}", Partition::of_region(region), self.name))
    }

    /// Returns the ARN of an association in the form of EKS. Region and AWS account are empty if unknown.
    pub fn association_arn(&self, id: &str) -> String {
        let (region, account) = match &self.location {
            Some((region, account)) => (region.as_str(), account.as_str()),
            None => ("", ""),
        };
        let partition = Partition::of_region(region);
        format!("arn:{partition}:eks:{region}:{account}:podidentityassociation/{}/{id}", self.name)
    }

    /// Returns the external id of a target role's session: `region/account/cluster/namespace/serviceaccount` (EKS user
    /// guide, *Access AWS resources using EKS Pod Identity target IAM roles*). It is always derived and never an
    /// input, so no pod can use the external id of another one.
    pub fn external_id(&self, namespace: &Namespace, service_account: &ServiceAccount) -> Option<String> {
        let (region, account) = self.location.as_ref()?;
        Some(format!("{region}/{account}/{}/{namespace}/{service_account}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_arns_and_external_ids_from_region_and_aws_account() {
        let plain = Cluster::new("demo".parse().unwrap());
        let shop = "shop".parse().unwrap();
        let cart = "cart".parse().unwrap();
        assert_eq!((plain.arn(), plain.external_id(&shop, &cart)), (None, None));

        let china = plain.in_region("cn-north-1", "111122223333".parse().unwrap());
        assert_eq!(china.arn().unwrap(), "arn:aws-cn:eks:cn-north-1:111122223333:cluster/demo");
        assert_eq!(china.external_id(&shop, &cart).unwrap(), "cn-north-1/111122223333/demo/shop/cart");
        assert_eq!(
            china.association_arn("a-1"),
            "arn:aws-cn:eks:cn-north-1:111122223333:podidentityassociation/demo/a-1"
        );
    }
}
