//! The accounts that have Pod Identity, from a file of either of two forms.
//!
//! That of AWS's webhook (`--watch-container-credentials-config`) is
//! `{"identities": [{"namespace": ..., "serviceAccount": ...}]}`. The other one is the file of associations that
//! pod-identity-auth serves (`--associations`).

use std::collections::{BTreeSet, HashMap, HashSet};

use pod_identity_core::identity::{ClusterName, Namespace, ServiceAccount};
use pod_identity_core::json::{self, JsonError};
use pod_identity_runtime::association_file::AssociationFile;
use serde::Deserialize;

use crate::object::Object;

/// The accounts that have Pod Identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identities {
    accounts: HashMap<Namespace, HashSet<ServiceAccount>>,
}

/// Why a file cannot be used. An empty one is such: read as "nobody", a file that is just being written would
/// take Pod Identity away from every pod that starts meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentitiesError {
    /// There is nothing in it.
    #[error("the file of identities is empty; one without identities says so: {{\"identities\": []}}")]
    Empty,
    /// It names clusters, and not this one: a name that is misspelt must not mean that nobody has a role.
    #[error(
        "the file of associations names the clusters {named}, and not {cluster}: correct --cluster-name, or \
         declare the cluster in the file"
    )]
    OtherClusters {
        /// The cluster that was looked for.
        cluster: ClusterName,
        /// Those that are named.
        named: String,
    },
    /// It is not JSON of the form, repeats a key, or holds a name that is none.
    #[error("the file of identities: {0}")]
    Json(#[from] JsonError),
}

/// More members than these may come from newer programs of AWS: they do not take away what is said here.
#[derive(Deserialize)]
struct File {
    /// `null` is how Go writes none. Without the key it is an error, though AWS's webhook reads that as nobody:
    /// what has no key that is known is another file, or misspelt.
    #[serde(deserialize_with = "Option::deserialize")]
    identities: Option<Vec<Object<Identity>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    namespace: Namespace,
    service_account: ServiceAccount,
}

impl Identities {
    /// Reads a file's content.
    ///
    /// # Errors
    /// [`IdentitiesError`]; what was read before stays right until the file is mended.
    pub fn parse(content: &[u8]) -> Result<Self, IdentitiesError> {
        if content.trim_ascii().is_empty() {
            return Err(IdentitiesError::Empty);
        }
        let Object(file): Object<File> = json::from_slice(content)?;
        let mut identities = Self::default();
        for Object(identity) in file.identities.unwrap_or_default() {
            identities.insert(identity.namespace, identity.service_account);
        }
        Ok(identities)
    }

    /// Those that have an association in a cluster. What an association says beside its account is for the auth
    /// service to judge: where that refuses it, its answer to the pod says so.
    ///
    /// # Errors
    /// [`IdentitiesError::OtherClusters`] where the file is about other clusters only.
    pub fn associated(file: AssociationFile, cluster: &ClusterName) -> Result<Self, IdentitiesError> {
        let declared = file.clusters.iter().map(|entry| &entry.name);
        let named: BTreeSet<_> =
            declared.chain(file.associations.iter().map(|entry| &entry.cluster_name)).collect();
        if !named.is_empty() && !named.contains(cluster) {
            let named: Vec<_> = named.into_iter().map(ClusterName::as_str).collect();
            let named = named.join(", ");
            return Err(IdentitiesError::OtherClusters { cluster: cluster.clone(), named });
        }
        let mut identities = Self::default();
        for association in file.associations {
            if association.cluster_name == *cluster {
                identities.insert(association.namespace, association.service_account);
            }
        }
        Ok(identities)
    }

    fn insert(&mut self, namespace: Namespace, account: ServiceAccount) {
        self.accounts.entry(namespace).or_default().insert(account);
    }

    /// The accounts that are among one of the two and not the other.
    pub fn difference<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a Namespace, &'a ServiceAccount)> {
        self.without(other).chain(other.without(self))
    }

    fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Namespace, &'a ServiceAccount)> {
        let all = self
            .accounts
            .iter()
            .flat_map(|(namespace, accounts)| accounts.iter().map(move |account| (namespace, account)));
        all.filter(|(namespace, account)| !other.contains(namespace, account))
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.accounts.values().map(HashSet::len).sum()
    }

    /// Whether nobody is among them.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Whether an account is among them: exact names, no patterns.
    pub fn contains(&self, namespace: &Namespace, account: &ServiceAccount) -> bool {
        self.accounts.get(namespace).is_some_and(|accounts| accounts.contains(account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_in_its_own_namespace_only() {
        let content = br#"{"identities": [
            {"namespace": "shop", "serviceAccount": "cart"},
            {"namespace": "shop", "serviceAccount": "pay.v1", "workloadIdentity": true},
            {"namespace": "shop", "serviceAccount": "cart"},
            {"namespace": "jobs", "serviceAccount": "night"}]}"#;
        let identities = Identities::parse(content).unwrap();
        for (namespace, account, found) in [
            ("shop", "cart", true),
            ("shop", "pay.v1", true),
            ("jobs", "night", true),
            ("jobs", "cart", false),
        ] {
            let contains = identities.contains(&namespace.parse().unwrap(), &account.parse().unwrap());
            assert_eq!(contains, found, "{namespace}/{account}");
        }
    }

    #[test]
    fn associations_of_this_cluster_count_and_a_file_without_it_is_refused() {
        let file = |text: &str| AssociationFile::parse(text).unwrap();
        let entry = |cluster: &str, account: &str| {
            format!(
                "- {{clusterName: {cluster}, namespace: shop, serviceAccount: {account}, \
                 roleArn: 'arn:aws:iam::111122223333:role/x'}}\n"
            )
        };
        let both = format!("associations:\n{}{}", entry("demo", "cart"), entry("other", "pay"));
        let demo = "demo".parse().unwrap();
        let found = Identities::associated(file(&both), &demo).unwrap();
        let contains = |account: &str| found.contains(&"shop".parse().unwrap(), &account.parse().unwrap());
        assert_eq!((contains("cart"), contains("pay"), found.len()), (true, false, 1));

        let declared = "clusters: [{name: demo, issuer: x}]\nassociations: []";
        for text in [declared, "associations: []"] {
            assert!(Identities::associated(file(text), &demo).unwrap().is_empty(), "{text}");
        }
        let error = Identities::associated(file(&both), &"dmeo".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("demo, other, and not dmeo") && error.contains("--cluster-name"), "{error}");
    }

    #[test]
    fn two_files_differ_in_the_accounts_that_one_has() {
        let file = |accounts: &[&str]| {
            let mut identities = Identities::default();
            accounts
                .iter()
                .for_each(|name| identities.insert("shop".parse().unwrap(), name.parse().unwrap()));
            identities
        };
        let (old, new) = (file(&["cart", "pay"]), file(&["pay", "night"]));
        let difference = |one: &Identities, other: &Identities| {
            let mut names: Vec<_> = one.difference(other).map(|(_, account)| account.to_string()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(difference(&old, &new), "cart night");
        assert_eq!(difference(&new, &old), "cart night");
        assert_eq!(difference(&old, &old), "");
        assert_eq!(difference(&old, &Identities::default()), "cart pay");
    }

    #[test]
    fn nobody_has_to_be_said() {
        for content in [r#"{"identities": []}"#, r#"{"identities": null}"#] {
            assert_eq!(Identities::parse(content.as_bytes()), Ok(Identities::default()), "{content}");
        }
        for content in ["", " \n"] {
            assert_eq!(Identities::parse(content.as_bytes()), Err(IdentitiesError::Empty));
        }
    }

    #[test]
    fn half_a_file_is_no_file() {
        for content in [
            r#"{"identities": ["#,
            r#"{"identities": [{"namespace": "shop"}]}"#,
            r#"{"identities": [{"namespace": "Shop", "serviceAccount": "cart"}]}"#,
            r#"{"identities": [], "identities": []}"#,
            "{}",
            r#"{"identites": [{"namespace": "shop", "serviceAccount": "cart"}]}"#,
            "[]",
        ] {
            assert!(
                matches!(Identities::parse(content.as_bytes()), Err(IdentitiesError::Json(_))),
                "{content}"
            );
        }
    }
}
