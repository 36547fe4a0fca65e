//! An immutable table of the associations of all clusters.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Association, InvalidAssociation};
use crate::cluster::Cluster;
use crate::error::ErrorCode;
use crate::identity::{ClusterName, Namespace, ServiceAccount};

/// Clusters and their associations, in memory and immutable.
///
/// ```
/// use pod_identity_core::association::{Association, AssociationTable};
/// use pod_identity_core::cluster::Cluster;
///
/// let (id, role) = ("a-1".parse()?, "arn:aws:iam::111122223333:role/cart".parse()?);
/// let cart = Association::new(id, "shop".parse()?, "cart".parse()?, role);
/// let table = AssociationTable::build([(Cluster::new("demo".parse()?), vec![cart])])?;
/// let (_, found) = table.lookup(&"demo".parse()?, &"shop".parse()?, &"cart".parse()?)?;
/// assert_eq!(found.role.name(), "cart");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct AssociationTable {
    clusters: HashMap<ClusterName, ClusterAssociations>,
}

#[derive(Debug)]
struct ClusterAssociations {
    cluster: Arc<Cluster>,
    associations: HashMap<Namespace, HashMap<ServiceAccount, Arc<Association>>>,
}

/// Error of [`AssociationTable::build`]: the first cluster or association that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct TableError(Problem);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("the cluster {0} is declared twice")]
    DuplicateCluster(ClusterName),
    // EKS allows one.
    #[error("cluster {cluster}: the service account {namespace}/{service_account} has two associations")]
    DuplicateAssociation { cluster: ClusterName, namespace: Namespace, service_account: ServiceAccount },
    #[error("cluster {cluster}: the association id {id} is used twice")]
    DuplicateId { cluster: ClusterName, id: String },
    #[error("cluster {cluster}: the association of {namespace}/{service_account}: {reason}")]
    Invalid {
        cluster: ClusterName,
        namespace: Namespace,
        service_account: ServiceAccount,
        reason: InvalidAssociation,
    },
}

/// Error of [`AssociationTable::lookup`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct LookupError(Missing);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Missing {
    #[error("no cluster named {0} is configured")]
    Cluster(ClusterName),
    #[error(
        "cluster {cluster} has no association for service account {service_account} in namespace {namespace}"
    )]
    Association { cluster: ClusterName, namespace: Namespace, service_account: ServiceAccount },
}

impl LookupError {
    /// Returns the stable code of the error.
    pub fn code(&self) -> ErrorCode {
        match self.0 {
            Missing::Cluster(_) => ErrorCode::ClusterUnknown,
            Missing::Association { .. } => ErrorCode::AssociationNotFound,
        }
    }
}

impl AssociationTable {
    /// Builds a table. One invalid association rejects the whole table, because a partial table would remove roles
    /// from pods.
    ///
    /// # Errors
    /// [`TableError`] for the first invalid association.
    pub fn build(
        clusters: impl IntoIterator<Item = (Cluster, Vec<Association>)>,
    ) -> Result<Self, TableError> {
        let mut table = Self::default();
        for (cluster, associations) in clusters {
            let name = cluster.name.clone();
            let entry = ClusterAssociations::build(cluster, associations)?;
            if table.clusters.insert(name.clone(), entry).is_some() {
                return Err(TableError(Problem::DuplicateCluster(name)));
            }
        }
        Ok(table)
    }

    /// Returns the association of a service account. Names match exactly; there are no patterns.
    ///
    /// # Errors
    /// [`LookupError`] if the cluster or the association does not exist.
    pub fn lookup(
        &self,
        cluster: &ClusterName,
        namespace: &Namespace,
        service_account: &ServiceAccount,
    ) -> Result<(&Arc<Cluster>, &Arc<Association>), LookupError> {
        let entry =
            self.clusters.get(cluster).ok_or_else(|| LookupError(Missing::Cluster(cluster.clone())))?;
        let found = entry
            .associations
            .get(namespace)
            .and_then(|service_accounts| service_accounts.get(service_account));
        found.map(|association| (&entry.cluster, association)).ok_or_else(|| {
            LookupError(Missing::Association {
                cluster: cluster.clone(),
                namespace: namespace.clone(),
                service_account: service_account.clone(),
            })
        })
    }

    /// Returns all associations with their clusters, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&Cluster, &Association)> {
        self.clusters.values().flat_map(|entry| {
            entry.associations.values().flat_map(HashMap::values).map(|found| (&*entry.cluster, &**found))
        })
    }

    /// Returns the names of the clusters, in no particular order.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterName> {
        self.clusters.keys()
    }
}

impl ClusterAssociations {
    fn build(cluster: Cluster, associations: Vec<Association>) -> Result<Self, TableError> {
        let mut ids = std::collections::HashSet::new();
        let mut index: HashMap<Namespace, HashMap<ServiceAccount, Arc<Association>>> = HashMap::new();
        for association in associations {
            let name = || cluster.name.clone();
            let (namespace, service_account) =
                (association.namespace.clone(), association.service_account.clone());
            if let Err(reason) = association.check(&cluster) {
                return Err(TableError(Problem::Invalid {
                    cluster: name(),
                    namespace,
                    service_account,
                    reason,
                }));
            }
            let id = association.id.clone();
            // The service account is checked before the id, because its error says more: derived ids are equal, too.
            let service_accounts = index.entry(namespace.clone()).or_default();
            if service_accounts.insert(service_account.clone(), Arc::new(association)).is_some() {
                return Err(TableError(Problem::DuplicateAssociation {
                    cluster: name(),
                    namespace,
                    service_account,
                }));
            }
            if !ids.insert(id.clone()) {
                return Err(TableError(Problem::DuplicateId { cluster: name(), id: id.to_string() }));
            }
        }
        Ok(Self { cluster: Arc::new(cluster), associations: index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> Cluster {
        Cluster::new(name.parse().unwrap())
    }

    fn association(id: &str, namespace: &str, service_account: &str) -> Association {
        Association::new(
            id.parse().unwrap(),
            namespace.parse().unwrap(),
            service_account.parse().unwrap(),
            format!("arn:aws:iam::111122223333:role/{id}").parse().unwrap(),
        )
    }

    #[test]
    fn lookup_matches_names_exactly() {
        let table = AssociationTable::build([
            (cluster("one"), vec![association("a-1", "shop", "cart"), association("a-2", "shop", "pay")]),
            (cluster("two"), vec![association("a-1", "shop", "cart")]),
        ])
        .unwrap();
        let found = |cluster: &str, namespace: &str, service_account: &str| {
            table
                .lookup(
                    &cluster.parse().unwrap(),
                    &namespace.parse().unwrap(),
                    &service_account.parse().unwrap(),
                )
                .map(|(cluster, found)| (cluster.name.to_string(), found.id.to_string()))
                .map_err(|error| error.code())
        };
        assert_eq!(found("one", "shop", "pay"), Ok(("one".into(), "a-2".into())));
        assert_eq!(found("two", "shop", "cart"), Ok(("two".into(), "a-1".into())));
        assert_eq!(found("two", "shop", "pay"), Err(ErrorCode::AssociationNotFound));
        assert_eq!(found("one", "cart", "shop"), Err(ErrorCode::AssociationNotFound));
        assert_eq!(found("three", "shop", "cart"), Err(ErrorCode::ClusterUnknown));
        assert_eq!(table.iter().count(), 3);
        let clusters: std::collections::BTreeSet<_> = table.clusters().map(ClusterName::as_str).collect();
        assert_eq!(clusters, ["one", "two"].into());
    }

    #[test]
    fn rejects_duplicate_clusters_associations_and_ids() {
        let build = |clusters| AssociationTable::build(clusters).map(drop);
        assert!(matches!(
            build(vec![(cluster("one"), vec![]), (cluster("one"), vec![])]),
            Err(TableError(Problem::DuplicateCluster(_)))
        ));
        let twice = vec![association("a-1", "shop", "cart"), association("a-2", "shop", "cart")];
        assert!(matches!(
            build(vec![(cluster("one"), twice)]),
            Err(TableError(Problem::DuplicateAssociation { .. }))
        ));
        let one_id = vec![association("a-1", "shop", "cart"), association("a-1", "shop", "pay")];
        assert!(matches!(
            build(vec![(cluster("one"), one_id)]),
            Err(TableError(Problem::DuplicateId { .. }))
        ));
    }
}
