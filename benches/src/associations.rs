//! Tables of associations, small and large, and names to look up.

use pod_identity_core::association::{Association, AssociationTable};
use pod_identity_core::cluster::Cluster;
use pod_identity_core::identity::{ClusterName, Namespace, ServiceAccount};

use crate::signed::Error;

/// Service accounts of a namespace: clusters with many associations have many namespaces.
const ACCOUNTS: u32 = 10;

/// The associations of one cluster.
#[derive(Debug)]
pub struct Table {
    size: u32,
    cluster: ClusterName,
    table: AssociationTable,
}

impl Table {
    /// A table of so many.
    ///
    /// # Errors
    /// None: its names are names.
    pub fn new(size: u32) -> Result<Self, Error> {
        let cluster: ClusterName = "bench".parse()?;
        let association = |number: u32| -> Result<Association, Error> {
            let (namespace, account) = names(number)?;
            let role = format!("arn:aws:iam::111122223333:role/{account}").parse()?;
            Ok(Association::new(format!("a-{number}").parse()?, namespace, account, role))
        };
        let associations = (0..size).map(association).collect::<Result<Vec<_>, _>>()?;
        let table = AssociationTable::build([(Cluster::new(cluster.clone()), associations)])?;
        Ok(Self { size, cluster, table })
    }

    /// How many there are.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Names to look up, in an order that no memory foresees.
    pub fn keys(&self, count: u32) -> Vec<(Namespace, ServiceAccount)> {
        let far = |number: u32| number.wrapping_mul(2_654_435_761) % self.size;
        (0..count).filter_map(|number| names(far(number)).ok()).collect()
    }

    /// Whether these names have an association.
    pub fn has(&self, (namespace, account): &(Namespace, ServiceAccount)) -> bool {
        self.table.lookup(&self.cluster, namespace, account).is_ok()
    }
}

fn names(number: u32) -> Result<(Namespace, ServiceAccount), Error> {
    let account = format!("checkout-service-{}", number % ACCOUNTS);
    Ok((format!("team-{}", number / ACCOUNTS).parse()?, account.parse()?))
}
