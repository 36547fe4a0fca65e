//! The file of clusters and associations, for the auth service and the webhook.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use pod_identity_core::arn::{AccountId, RoleArn};
use pod_identity_core::association::{Association, AssociationId, AssociationTable, TableError};
use pod_identity_core::cluster::Cluster;
use pod_identity_core::identity::{ClusterName, Namespace, ServiceAccount};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::files::read_text;

/// Maximum size of an association file in bytes: 100,000 associations, each with the longest session policy.
const MAX_FILE: usize = 256 * 1024 * 1024;

/// Clusters and associations, in YAML or JSON. Field names are those of the EKS API. An unknown field is an error, so
/// that a misspelled field does not silently have no effect. A field with the value `null` is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssociationFile {
    /// The clusters.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub clusters: Vec<ClusterEntry>,
    /// The associations of all clusters. A file without this key is rejected even if it declares clusters, because it
    /// may be incomplete.
    pub associations: Vec<AssociationEntry>,
}

/// A cluster: its issuers, name, region and AWS account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "ClusterMembers", into = "ClusterMembers")]
pub struct ClusterEntry {
    /// Its name.
    pub name: ClusterName,
    /// The issuers whose tokens are accepted: the values of the API server's `--service-account-issuer` flags.
    pub issuers: Vec<IssuerEntry>,
    /// Its region.
    pub region: Option<String>,
    /// Its AWS account.
    pub account_id: Option<AccountId>,
    /// Location of the keys of issuers without an own location.
    pub keys: KeysEntry,
}

/// An issuer of a cluster's tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerEntry {
    /// The exact value of the API server's `--service-account-issuer`.
    pub issuer: String,
    /// Location of its keys. Without it, the location of the cluster applies.
    pub keys: KeysEntry,
}

/// Location of an issuer's keys, and settings for fetching them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeysEntry {
    /// URL of the key set. Without it, the URL in the issuer's discovery document applies.
    pub jwks_url: Option<String>,
    /// A file with the keys.
    pub jwks_file: Option<PathBuf>,
    /// Certificates to trust for the issuer.
    pub ca_file: Option<PathBuf>,
    /// A bearer token for the issuer.
    pub bearer_token_file: Option<PathBuf>,
}

impl From<String> for IssuerEntry {
    fn from(issuer: String) -> Self {
        Self { issuer, keys: KeysEntry::default() }
    }
}

/// The fields of a cluster in the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClusterMembers {
    name: ClusterName,
    #[serde(alias = "issuer", deserialize_with = "one_or_many")]
    issuers: Vec<IssuerEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bearer_token_file: Option<PathBuf>,
}

impl From<ClusterMembers> for ClusterEntry {
    fn from(of: ClusterMembers) -> Self {
        let ClusterMembers { jwks_url, jwks_file, ca_file, bearer_token_file, .. } = of;
        let keys = KeysEntry { jwks_url, jwks_file, ca_file, bearer_token_file };
        Self { name: of.name, issuers: of.issuers, region: of.region, account_id: of.account_id, keys }
    }
}

impl From<ClusterEntry> for ClusterMembers {
    fn from(of: ClusterEntry) -> Self {
        let KeysEntry { jwks_url, jwks_file, ca_file, bearer_token_file } = of.keys;
        let (name, issuers, region, account_id) = (of.name, of.issuers, of.region, of.account_id);
        Self { name, issuers, region, account_id, jwks_url, jwks_file, ca_file, bearer_token_file }
    }
}

/// The fields of an issuer that is a mapping.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IssuerMembers {
    issuer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bearer_token_file: Option<PathBuf>,
}

impl Serialize for IssuerEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.keys == KeysEntry::default() {
            return self.issuer.serialize(serializer);
        }
        let KeysEntry { jwks_url, jwks_file, ca_file, bearer_token_file } = self.keys.clone();
        let issuer = self.issuer.clone();
        IssuerMembers { issuer, jwks_url, jwks_file, ca_file, bearer_token_file }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for IssuerEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneIssuer;

        impl<'de> Visitor<'de> for OneIssuer {
            type Value = IssuerEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an issuer: its URL, or a mapping with issuer and the location of its keys")
            }

            fn visit_str<E>(self, issuer: &str) -> Result<IssuerEntry, E> {
                Ok(issuer.to_owned().into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IssuerEntry, A::Error> {
                let of = IssuerMembers::deserialize(MapAccessDeserializer::new(map))?;
                let IssuerMembers { issuer, jwks_url, jwks_file, ca_file, bearer_token_file } = of;
                Ok(IssuerEntry {
                    issuer,
                    keys: KeysEntry { jwks_url, jwks_file, ca_file, bearer_token_file },
                })
            }
        }

        deserializer.deserialize_any(OneIssuer)
    }
}

/// Deserializes one issuer, or a non-empty list of issuers.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IssuerEntry>, D::Error> {
    struct Issuers;

    impl<'de> Visitor<'de> for Issuers {
        type Value = Vec<IssuerEntry>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an issuer's URL, or a list of issuers")
        }

        fn visit_str<E>(self, issuer: &str) -> Result<Self::Value, E> {
            Ok(vec![issuer.to_owned().into()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut issuers = Vec::new();
            while let Some(issuer) = items.next_element()? {
                issuers.push(issuer);
            }
            if issuers.is_empty() { Err(de::Error::custom("issuers is an empty list")) } else { Ok(issuers) }
        }
    }

    deserializer.deserialize_any(Issuers)
}

/// Deserializes `null` as the default.
fn null_is_absent<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An association, with the fields of EKS's `PodIdentityAssociation`: the input of `CreatePodIdentityAssociation`, and
/// the fields that EKS adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssociationEntry {
    /// The cluster.
    pub cluster_name: ClusterName,
    /// The namespace of the pods.
    pub namespace: Namespace,
    /// The service account of the pods.
    pub service_account: ServiceAccount,
    /// The role.
    pub role_arn: RoleArn,
    /// The id. Without it, the id in the ARN, or one derived from cluster, namespace and service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub association_id: Option<String>,
    /// The ARN. Its cluster and id must match this entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub association_arn: Option<String>,
    /// A second role, assumed with the credentials of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_role_arn: Option<RoleArn>,
    /// The external id of the target role's session. It is derived, so this value must equal the derived one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Whether the session tags are omitted.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub disable_session_tags: bool,
    /// A session policy, as JSON text or as a mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<serde_json::Value>,
    /// Duration of a session in seconds; default 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u64>,
    #[serde(default, skip_serializing)]
    tags: ReadOnly,
    #[serde(default, skip_serializing)]
    created_at: ReadOnly,
    #[serde(default, skip_serializing)]
    modified_at: ReadOnly,
    #[serde(default, skip_serializing)]
    owner_arn: ReadOnly,
}

/// A field of EKS's output that is ignored.
#[derive(Debug, Clone, Default, PartialEq)]
struct ReadOnly;

impl<'de> Deserialize<'de> for ReadOnly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Error of reading an association file.
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

    /// Returns the reason, without the path.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Adds the path of the file to the error.
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
    /// Reads a regular file of at most 256 MiB.
    ///
    /// # Errors
    /// [`FileError`] with the path and, for a syntax error, the line. A file that changes during the reading is an
    /// error, too. To replace a file, write another one and rename it.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = read_text(path, MAX_FILE).map_err(|error| FileError::new(error).at(path))?;
        if text.trim().is_empty() {
            let reason = "the file is empty: write associations: [] in a file without associations";
            return Err(FileError::new(reason).at(path));
        }
        Self::parse(&text).map_err(|error| error.at(path))
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// [`FileError`] with, for a syntax error, the line.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        // JSON is also YAML, but the JSON parser is several times as fast. Text that begins with a brace and is not
        // JSON may be YAML.
        if text.trim_start().starts_with('{')
            && let Ok(file) = pod_identity_core::json::from_slice(text.as_bytes())
        {
            return Ok(file);
        }
        // About 22,000 associations reach the library's default limit of 250,000 nodes.
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_nodes: 20_000_000,
                max_events: 40_000_000,
                max_total_scalar_bytes: 1024 * 1024 * 1024,
            },
        };
        serde_saphyr::from_str_with_options(text, options).map_err(FileError::new)
    }

    /// Returns the file with one more cluster.
    #[must_use]
    pub fn with_cluster(mut self, cluster: ClusterEntry) -> Self {
        self.clusters.push(cluster);
        self
    }

    /// Returns the associations as a table for lookups.
    ///
    /// # Errors
    /// [`FileError`] for the first invalid entry.
    pub fn table(&self) -> Result<AssociationTable, FileError> {
        let mut clusters = Vec::new();
        let mut places: HashMap<&ClusterName, usize> = HashMap::new();
        for entry in &self.clusters {
            places.insert(&entry.name, clusters.len());
            clusters.push((entry.cluster()?, Vec::new()));
        }
        for (index, entry) in self.associations.iter().enumerate() {
            let wrong = |reason: &str| FileError::new(format!("associations[{index}]: {reason}"));
            let of = places.get(&entry.cluster_name).and_then(|place| clusters.get_mut(*place));
            let Some((cluster, associations)) = of else {
                return Err(wrong(&format!("the cluster {} is not declared", entry.cluster_name)));
            };
            associations.push(entry.association(cluster).map_err(|error| wrong(&error.reason))?);
        }
        Ok(AssociationTable::build(clusters)?)
    }
}

impl ClusterEntry {
    /// Returns the cluster.
    ///
    /// # Errors
    /// [`FileError`] if the entry has a region but no AWS account, or the reverse.
    pub fn cluster(&self) -> Result<Cluster, FileError> {
        let cluster = Cluster::new(self.name.clone());
        match (&self.region, &self.account_id) {
            (Some(region), Some(account)) => Ok(cluster.in_region(region, account.clone())),
            (None, None) => Ok(cluster),
            _ => Err(FileError::new(format!(
                "cluster {}: set both region and accountId, or neither",
                self.name
            ))),
        }
    }
}

impl AssociationEntry {
    /// Returns the id of this association: the given one, that of the given ARN, or one derived from cluster,
    /// namespace and service account. A derived id is the same after restarts and on every replica.
    ///
    /// # Errors
    /// [`FileError`] if the given text is not an id.
    pub fn id(&self) -> Result<AssociationId, FileError> {
        let of_arn = || self.association_arn.as_ref()?.rsplit_once('/').map(|(_, id)| id);
        if let Some(id) = self.association_id.as_deref().or_else(of_arn) {
            return id.parse().map_err(FileError::new);
        }
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let subject = format!("{}/{}/{}", self.cluster_name, self.namespace, self.service_account);
        let hash = digest(&SHA256, subject.as_bytes());
        let text = hash.as_ref().iter().take(17).map(|byte| DIGITS[usize::from(*byte) % 36] as char);
        format!("a-{}", text.collect::<String>()).parse().map_err(FileError::new)
    }

    fn association(&self, cluster: &Cluster) -> Result<Association, FileError> {
        let id = self.id()?;
        self.check_arn(cluster, &id)?;
        self.check_external_id(cluster)?;
        Ok(Association {
            id,
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

    /// Rejects the ARN of another cluster or association, which was copied from another entry.
    fn check_arn(&self, cluster: &Cluster, id: &AssociationId) -> Result<(), FileError> {
        let Some(given) = &self.association_arn else { return Ok(()) };
        let wanted = cluster.association_arn(id.as_str());
        // If the cluster has no region and AWS account, any are accepted.
        let resource = |arn: &str| arn.splitn(6, ':').nth(5).map(str::to_owned);
        let same = match cluster.arn() {
            Some(_) => *given == wanted,
            None => given.starts_with("arn:") && resource(given) == resource(&wanted),
        };
        if same {
            return Ok(());
        }
        Err(FileError::new(format!(
            "associationArn is {given:?}, want {wanted:?}: correct it or remove it, because it is derived"
        )))
    }

    /// Rejects an external id that differs from the derived one. It would never be sent, so a trust policy with it
    /// would refuse each session.
    fn check_external_id(&self, cluster: &Cluster) -> Result<(), FileError> {
        let Some(given) = &self.external_id else { return Ok(()) };
        match cluster.external_id(&self.namespace, &self.service_account) {
            Some(derived) if derived == *given => Ok(()),
            Some(derived) => Err(FileError::new(format!(
                "externalId is {given:?}, want {derived:?} (region/accountId/cluster/namespace/serviceAccount): remove \
                 it, because it is derived, and use the derived one in the target role's trust policy"
            ))),
            None => Err(FileError::new(format!(
                "externalId is {given:?}, but the cluster {} has no region and accountId, which it contains: set \
                 them, or leave externalId out",
                cluster.name
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
