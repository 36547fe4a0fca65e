//! The service accounts that have Pod Identity, as the file of AWS's webhook names them.
//!
//! `--watch-container-credentials-config` of that webhook takes
//! `{"identities": [{"namespace": "shop", "serviceAccount": "cart"}]}`.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::identity::{Namespace, ServiceAccount};
use crate::json::{self, JsonError};

/// A set of service accounts that have Pod Identity. Names match exactly; there are no patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodIdentityServiceAccounts {
    by_namespace: HashMap<Namespace, HashSet<ServiceAccount>>,
}

/// Why a file of service accounts cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPodIdentityFile {
    /// The file is empty. A program that is writing the file leaves it empty for a moment. Read as "no service account",
    /// it would take Pod Identity away from every pod that is created in that moment.
    #[error("the file is empty: write {{\"identities\": []}} if no service account has Pod Identity")]
    Empty,
    /// The content is not JSON of the form, has a duplicate key, or has an invalid name.
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// Unknown members are ignored: newer versions of AWS's webhook may write more.
#[derive(Deserialize)]
struct File {
    /// `null` is an empty list, as Go writes it. A file without the key is an error, since the key may be misspelled.
    #[serde(deserialize_with = "Option::deserialize")]
    identities: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    namespace: Namespace,
    service_account: ServiceAccount,
}

impl PodIdentityServiceAccounts {
    /// Parses the file's content.
    ///
    /// # Errors
    /// [`InvalidPodIdentityFile`] for the whole file if one entry is invalid.
    pub fn parse(content: &[u8]) -> Result<Self, InvalidPodIdentityFile> {
        if content.trim_ascii().is_empty() {
            return Err(InvalidPodIdentityFile::Empty);
        }
        let file: File = json::from_slice(content)?;
        let entries = file.identities.unwrap_or_default();
        Ok(entries.into_iter().map(|entry| (entry.namespace, entry.service_account)).collect())
    }

    /// Returns the number of service accounts.
    pub fn len(&self) -> usize {
        self.by_namespace.values().map(HashSet::len).sum()
    }

    /// Returns whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.by_namespace.is_empty()
    }

    /// Returns whether a service account is in the set.
    pub fn contains(&self, namespace: &Namespace, service_account: &ServiceAccount) -> bool {
        self.by_namespace.get(namespace).is_some_and(|names| names.contains(service_account))
    }
}

impl FromIterator<(Namespace, ServiceAccount)> for PodIdentityServiceAccounts {
    fn from_iter<I: IntoIterator<Item = (Namespace, ServiceAccount)>>(iter: I) -> Self {
        let mut set = Self::default();
        for (namespace, service_account) in iter {
            set.by_namespace.entry(namespace).or_default().insert(service_account);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_service_account_in_its_own_namespace_only() {
        let content = br#"{"identities": [
            {"namespace": "shop", "serviceAccount": "cart"},
            {"namespace": "shop", "serviceAccount": "pay.v1", "workloadIdentity": true},
            {"namespace": "shop", "serviceAccount": "cart"},
            {"namespace": "jobs", "serviceAccount": "night"}]}"#;
        let set = PodIdentityServiceAccounts::parse(content).unwrap();
        for (namespace, service_account, found) in [
            ("shop", "cart", true),
            ("shop", "pay.v1", true),
            ("jobs", "night", true),
            ("jobs", "cart", false),
        ] {
            let contains = set.contains(&namespace.parse().unwrap(), &service_account.parse().unwrap());
            assert_eq!(contains, found, "{namespace}/{service_account}");
        }
        assert_eq!(set.len(), 3);
    }

    #[test]
    fn accepts_an_empty_list_and_rejects_an_empty_file() {
        for content in [r#"{"identities": []}"#, r#"{"identities": null}"#] {
            let parsed = PodIdentityServiceAccounts::parse(content.as_bytes());
            assert_eq!(parsed, Ok(PodIdentityServiceAccounts::default()), "{content}");
        }
        for content in ["", " \n"] {
            let parsed = PodIdentityServiceAccounts::parse(content.as_bytes());
            assert_eq!(parsed, Err(InvalidPodIdentityFile::Empty));
        }
    }

    #[test]
    fn rejects_the_whole_file_for_one_invalid_part() {
        for content in [
            r#"{"identities": ["#,
            r#"{"identities": [{"namespace": "shop"}]}"#,
            r#"{"identities": [{"namespace": "Shop", "serviceAccount": "cart"}]}"#,
            r#"{"identities": [], "identities": []}"#,
            "{}",
            r#"{"identites": [{"namespace": "shop", "serviceAccount": "cart"}]}"#,
            "[]",
        ] {
            let parsed = PodIdentityServiceAccounts::parse(content.as_bytes());
            assert!(matches!(parsed, Err(InvalidPodIdentityFile::Json(_))), "{content}");
        }
    }
}
