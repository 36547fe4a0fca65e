//! A cluster, as far as AWS knows it.

use crate::arn::{AccountId, Partition};
use crate::identity::{ClusterName, Namespace, ServiceAccount};

/// A cluster: its name and, where configured, the region and account that its ARN and the external
/// ids of its target roles are made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// The name that the agents ask under.
    pub name: ClusterName,
    location: Option<(String, AccountId)>,
}

impl Cluster {
    /// A cluster without region and account: its sessions have no `eks-cluster-arn` tag, and none of
    /// its associations may have a target role.
    pub fn new(name: ClusterName) -> Self {
        Self { name, location: None }
    }

    /// The same cluster in a region of an account.
    #[must_use]
    pub fn in_region(self, region: &str, account: AccountId) -> Self {
        Self { location: Some((region.to_owned(), account)), ..self }
    }

    /// The cluster's ARN, in the form of EKS: `arn:aws:eks:<region>:<account>:cluster/<name>`.
    pub fn arn(&self) -> Option<String> {
        let (region, account) = self.location.as_ref()?;
        Some(format!("arn:{}:eks:{region}:{account}:cluster/{}", Partition::of_region(region), self.name))
    }

    /// An association's ARN, in the form of EKS. Region and account stay empty where unknown.
    pub fn association_arn(&self, id: &str) -> String {
        let (region, account) = match &self.location {
            Some((region, account)) => (region.as_str(), account.as_str()),
            None => ("", ""),
        };
        let partition = Partition::of_region(region);
        format!("arn:{partition}:eks:{region}:{account}:podidentityassociation/{}/{id}", self.name)
    }

    /// The external id of a target role's session: `region/account/cluster/namespace/serviceaccount`
    /// (EKS user guide, *Access AWS resources using EKS Pod Identity target IAM roles*). It is always
    /// derived, never an input, so that no pod can name another's.
    pub fn external_id(&self, namespace: &Namespace, service_account: &ServiceAccount) -> Option<String> {
        let (region, account) = self.location.as_ref()?;
        Some(format!("{region}/{account}/{}/{namespace}/{service_account}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_and_external_ids_derive_from_region_and_account() {
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
