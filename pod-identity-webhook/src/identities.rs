//! The file of accounts that have Pod Identity, in the form of AWS's webhook
//! (`--watch-container-credentials-config`): `{"identities": [{"namespace": ..., "serviceAccount": ...}]}`.

use std::collections::{HashMap, HashSet};

use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_core::json::{self, JsonError};
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
    /// It is not JSON of the form, repeats a key, or holds a name that is none.
    #[error("the file of identities: {0}")]
    Json(#[from] JsonError),
}

/// More members than these may come from newer programs of AWS: they do not take away what is said here.
#[derive(Deserialize)]
struct File {
    /// AWS's own type leaves it out where there are none.
    #[serde(default)]
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
            identities.accounts.entry(identity.namespace).or_default().insert(identity.service_account);
        }
        Ok(identities)
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
    fn nobody_has_to_be_said() {
        for content in ["{}", r#"{"identities": []}"#, r#"{"identities": null}"#] {
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
            "[]",
        ] {
            assert!(
                matches!(Identities::parse(content.as_bytes()), Err(IdentitiesError::Json(_))),
                "{content}"
            );
        }
    }
}
