//! Association tables of several sizes, with names to look up.

use pod_identity_core::association::{Association, AssociationTable};
use pod_identity_core::cluster::Cluster;
use pod_identity_core::identity::{ClusterName, Namespace, ServiceAccount};

use crate::signed::Error;

/// Number of service accounts in a namespace. Clusters with many associations have many namespaces.
const SERVICE_ACCOUNTS: u32 = 10;

/// The associations of one cluster.
#[derive(Debug)]
pub struct Table {
    size: u32,
    cluster: ClusterName,
    table: AssociationTable,
}

impl Table {
    /// Makes a table of `size` associations.
    ///
    /// If a generated name is invalid, which is a bug.
    pub fn new(size: u32) -> Result<Self, Error> {
        let cluster: ClusterName = "bench".parse()?;
        let association = |number: u32| -> Result<Association, Error> {
            let (namespace, service_account) = names(number)?;
            let role = format!("arn:aws:iam::111122223333:role/{service_account}").parse()?;
            Ok(Association::new(format!("a-{number}").parse()?, namespace, service_account, role))
        };
        let associations = (0..size).map(association).collect::<Result<Vec<_>, _>>()?;
        let table = AssociationTable::build([(Cluster::new(cluster.clone()), associations)])?;
        Ok(Self { size, cluster, table })
    }

    /// Returns the number of associations.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Returns names to look up, in an order without locality.
    pub fn keys(&self, count: u32) -> Vec<(Namespace, ServiceAccount)> {
        let far = |number: u32| number.wrapping_mul(2_654_435_761) % self.size;
        (0..count).filter_map(|number| names(far(number)).ok()).collect()
    }

    /// Returns whether the names have an association.
    pub fn has(&self, (namespace, service_account): &(Namespace, ServiceAccount)) -> bool {
        self.table.lookup(&self.cluster, namespace, service_account).is_ok()
    }
}

fn names(number: u32) -> Result<(Namespace, ServiceAccount), Error> {
    let service_account = format!("checkout-service-{}", number % SERVICE_ACCOUNTS);
    Ok((format!("team-{}", number / SERVICE_ACCOUNTS).parse()?, service_account.parse()?))
}
