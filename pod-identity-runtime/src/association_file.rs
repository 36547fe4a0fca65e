//! The file of clusters and associations: what the auth service serves, and the webhook injects by.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use pod_identity_core::arn::{AccountId, RoleArn};
use pod_identity_core::association::{Association, AssociationId, AssociationTable, TableError};
use pod_identity_core::cluster::Cluster;
use pod_identity_core::identity::{ClusterName, Namespace, ServiceAccount};
use serde::{Deserialize, Serialize};

/// Clusters and associations, in YAML or JSON. Member names are those of the EKS API; a member that
/// is not known is an error, so that a misspelt one is not silently without effect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssociationFile {
    /// The clusters.
    #[serde(default)]
    pub clusters: Vec<ClusterEntry>,
    /// The associations of all clusters. A file that does not have the key is refused, though it declares
    /// clusters: the rest of it may not be written yet.
    pub associations: Vec<AssociationEntry>,
}

/// A cluster: who issues its tokens, and what AWS is to call it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterEntry {
    /// Its name.
    pub name: ClusterName,
    /// The API server's `--service-account-issuer`, to the letter.
    pub issuer: String,
    /// Its region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Its account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// Where the issuer's keys are, if not where its discovery document says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// A file with the issuer's keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// Certificates to trust for the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A bearer token for the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
}

/// An association, with the members of EKS's `CreatePodIdentityAssociation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssociationEntry {
    /// The cluster.
    pub cluster_name: ClusterName,
    /// The pods' namespace.
    pub namespace: Namespace,
    /// The pods' service account.
    pub service_account: ServiceAccount,
    /// The role.
    pub role_arn: RoleArn,
    /// The id; without it, one is derived from cluster, namespace and service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub association_id: Option<String>,
    /// A second role, assumed with the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_role_arn: Option<RoleArn>,
    /// Whether the session tags are left out.
    #[serde(default)]
    pub disable_session_tags: bool,
    /// A session policy: a JSON text, or the same as a mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<serde_json::Value>,
    /// How long a session lasts, in seconds; 3600 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{reason}", .path.as_deref().map(|path| format!("{}: ", path.display())).unwrap_or_default())]
pub struct FileError {
    path: Option<PathBuf>,
    reason: String,
}

impl FileError {
    fn new(reason: impl ToString) -> Self {
        Self { path: None, reason: reason.to_string() }
    }

    /// What is wrong, without the path.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The same error of a file that was read from `path`.
    #[must_use]
    pub fn at(self, path: &Path) -> Self {
        Self { path: Some(path.to_owned()), ..self }
    }
}

impl From<TableError> for FileError {
    fn from(error: TableError) -> Self {
        Self::new(error)
    }
}

impl AssociationFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`FileError`] with the path and, for a syntax error, the line.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError::new(error).at(path))?;
        if text.trim().is_empty() {
            let reason = "the file is empty; a file without associations says so: associations: []";
            return Err(FileError::new(reason).at(path));
        }
        Self::parse(&text).map_err(|error| error.at(path))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`FileError`] with, for a syntax error, the line.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        // JSON is YAML too, and read several times as fast as JSON. What is not JSON after all may still
        // be YAML that begins with a brace.
        if text.trim_start().starts_with('{')
            && let Ok(file) = pod_identity_core::json::from_slice(text.as_bytes())
        {
            return Ok(file);
        }
        // The library's own limit of 250,000 nodes is reached by about 22,000 associations.
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_nodes: 20_000_000,
                max_events: 40_000_000,
                max_total_scalar_bytes: 1024 * 1024 * 1024,
            },
        };
        serde_saphyr::from_str_with_options(text, options).map_err(FileError::new)
    }

    /// The same file with one more cluster.
    #[must_use]
    pub fn with_cluster(mut self, cluster: ClusterEntry) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// The associations as the table that requests are looked up in.
    ///
    /// # Errors
    /// [`FileError`] for the first entry that cannot be taken.
    pub fn table(&self) -> Result<AssociationTable, FileError> {
        let mut by_cluster: HashMap<&ClusterName, Vec<Association>> = HashMap::new();
        for (index, entry) in self.associations.iter().enumerate() {
            let association = entry
                .association()
                .map_err(|error| FileError::new(format!("associations[{index}]: {}", error.reason)))?;
            by_cluster.entry(&entry.cluster_name).or_default().push(association);
        }
        let clusters = self
            .clusters
            .iter()
            .map(|entry| Ok((entry.cluster()?, by_cluster.remove(&entry.name).unwrap_or_default())))
            .collect::<Result<Vec<_>, FileError>>()?;
        let table = AssociationTable::build(clusters)?;
        if let Some(name) = by_cluster.keys().next() {
            return Err(FileError::new(format!(
                "an association names the cluster {name}, which is not declared"
            )));
        }
        Ok(table)
    }
}

impl ClusterEntry {
    fn cluster(&self) -> Result<Cluster, FileError> {
        let cluster = Cluster::new(self.name.clone());
        match (&self.region, &self.account_id) {
            (Some(region), Some(account)) => Ok(cluster.in_region(region, account.clone())),
            (None, None) => Ok(cluster),
            _ => Err(FileError::new(format!("cluster {}: region and accountId belong together", self.name))),
        }
    }
}

impl AssociationEntry {
    /// The id of this association: the given one, or one derived from what may exist once only, so
    /// that it stays the same through restarts and on every replica.
    ///
    /// # Errors
    /// [`FileError`] where the given one is no id.
    pub fn id(&self) -> Result<AssociationId, FileError> {
        if let Some(id) = &self.association_id {
            return id.parse().map_err(FileError::new);
        }
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let subject = format!("{}/{}/{}", self.cluster_name, self.namespace, self.service_account);
        let hash = digest(&SHA256, subject.as_bytes());
        let text = hash.as_ref().iter().take(17).map(|byte| DIGITS[usize::from(*byte) % 36] as char);
        format!("a-{}", text.collect::<String>()).parse().map_err(FileError::new)
    }

    fn association(&self) -> Result<Association, FileError> {
        Ok(Association {
            id: self.id()?,
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            role: self.role_arn.clone(),
            target_role: self.target_role_arn.clone(),
            disable_session_tags: self.disable_session_tags,
            policy: self.policy.as_ref().map(|policy| match policy {
                serde_json::Value::String(text) => text.clone(),
                mapping => mapping.to_string(),
            }),
            duration: self.duration_seconds.map(Duration::from_secs),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "clusters: [{name: demo, issuer: 'https://oidc.pod-identity.test/demo'}]\n";

    fn table(text: &str) -> Result<AssociationTable, String> {
        AssociationFile::parse(text).and_then(|file| file.table()).map_err(|error| error.to_string())
    }

    fn association(extra: &str) -> Result<AssociationTable, String> {
        table(&format!(
            "{CLUSTER}associations:\n- clusterName: demo\n  namespace: shop\n  serviceAccount: cart\n  \
             roleArn: arn:aws:iam::111122223333:role/cart\n{extra}"
        ))
    }

    #[test]
    fn an_association_without_an_id_gets_a_lasting_one() {
        let id = |table: AssociationTable| table.iter().next().unwrap().1.id.to_string();
        let derived = id(association("").unwrap());
        assert_eq!(derived.len(), "a-".len() + 17);
        assert_eq!(derived, id(association("  durationSeconds: 900\n").unwrap()));
        assert_eq!(id(association("  associationId: a-1\n").unwrap()), "a-1");
    }

    #[test]
    fn json_is_read_as_well_and_so_is_yaml_that_begins_like_it() {
        assert!(table(r#"{"clusters": [], "associations": []}"#).is_ok());
        assert!(table("{clusters: [], associations: []}").is_ok());
        let twice = table(r#"{"clusters": [], "clusters": []}"#).unwrap_err();
        assert!(twice.contains("clusters"), "{twice}");
    }

    #[test]
    fn rejects_an_array_in_the_place_of_an_object() {
        let cluster = r#"{"name": "demo", "issuer": "https://a.test"}"#;
        let association = r#"{"clusterName": "demo", "namespace": "shop", "serviceAccount": "cart",
            "roleArn": "arn:aws:iam::111122223333:role/cart"}"#;
        let file = |clusters: &str, associations: &str| {
            table(&format!(r#"{{"clusters": [{clusters}], "associations": [{associations}]}}"#))
        };
        assert!(file(cluster, association).is_ok());
        let array = r#"["demo", "shop", "cart", "arn:aws:iam::111122223333:role/cart", null, null, false]"#;
        let reasons = [
            file(cluster, array),
            file(r#"["demo", "https://a.test"]"#, association),
            table(&format!("[[{cluster}], [{association}]]")),
        ];
        for reason in reasons {
            assert!(reason.as_ref().is_err_and(|reason| reason.contains("line 1")), "{reason:?}");
        }
    }

    #[test]
    fn thirty_thousand_associations_in_yaml_are_not_too_many() {
        let mut text = format!("{CLUSTER}associations:\n");
        for number in 0..30_000 {
            text += &format!(
                "- {{clusterName: demo, namespace: shop, serviceAccount: a-{number}, \
                 roleArn: 'arn:aws:iam::111122223333:role/cart'}}\n"
            );
        }
        assert_eq!(table(&text).unwrap().iter().count(), 30_000);
    }

    #[test]
    fn a_policy_may_be_a_text_or_a_mapping() {
        for policy in ["'{\"Version\": \"2012-10-17\"}'", "{Version: '2012-10-17'}"] {
            let table = association(&format!("  disableSessionTags: true\n  policy: {policy}\n")).unwrap();
            assert!(table.iter().next().unwrap().1.policy.as_ref().unwrap().starts_with('{'));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            (association("  rolArn: x\n"), "rolArn"),
            (table(CLUSTER), "associations"),
            (table(&format!("{CLUSTER}assoc")), ""),
            (table(&format!("{CLUSTER}associations:\n")), ""),
            (table(r#"{"clusters": []}"#), "associations"),
            (association("  associationId: b-1\n"), "associations[0]"),
            (association("  targetRoleArn: arn:aws:iam::444455556666:role/far\n"), "region and accountId"),
            (association("  policy: {}\n"), "disableSessionTags"),
            (
                association(
                    "- {clusterName: other, namespace: a, serviceAccount: b, roleArn: 'arn:aws:iam::111122223333:role/x'}\n",
                ),
                "other",
            ),
            (
                table("{clusters: [{name: demo, issuer: x, region: eu-west-1}], associations: []}"),
                "belong together",
            ),
            (
                table("{clusters: [{name: demo, issuer: x, accountId: 111122223333}], associations: []}"),
                "accountId",
            ),
        ] {
            let error = text.unwrap_err();
            assert!(error.contains(named), "{error:?} does not name {named:?}");
        }
    }
}
