//! A service account, as far as it is looked at: its metadata.
//!
//! The API server is asked for metadata only, and of that `managedFields`, the largest part, is never kept.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Resource;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};

/// A service account's metadata: its names, its version, its annotations.
#[derive(Debug, Clone, Default)]
pub(super) struct AccountObject(ObjectMeta);

impl AccountObject {
    /// Takes the annotations out.
    pub(super) fn into_annotations(self) -> BTreeMap<String, String> {
        self.0.annotations.unwrap_or_default()
    }

    pub(super) fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.0.annotations.as_ref()
    }
}

impl<'de> Deserialize<'de> for AccountObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            name: Option<String>,
            namespace: Option<String>,
            resource_version: Option<String>,
            annotations: Option<BTreeMap<String, String>>,
        }
        let Object { metadata } = Object::deserialize(deserializer)?;
        Ok(Self(ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            resource_version: metadata.resource_version,
            annotations: metadata.annotations,
            ..ObjectMeta::default()
        }))
    }
}

impl Resource for AccountObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        ServiceAccount::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        ServiceAccount::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        ServiceAccount::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        ServiceAccount::plural(&())
    }

    fn metadata_api() -> bool {
        true
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_account_no_more_is_kept_than_is_looked_at() {
        let object: AccountObject = serde_json::from_str(
            r#"{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {
                "name": "cart", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "2026-11-22T08:00:00Z", "labels": {"app": "cart"},
                "annotations": {"eks.amazonaws.com/audience": "a"},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:metadata": {}}}]}}"#,
        )
        .unwrap();
        let expected = ObjectMeta {
            name: Some("cart".to_owned()),
            namespace: Some("shop".to_owned()),
            resource_version: Some("7".to_owned()),
            annotations: Some([("eks.amazonaws.com/audience".to_owned(), "a".to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert_eq!(object.meta(), &expected);
    }

    #[test]
    fn an_account_without_annotations_says_nothing() {
        let object: AccountObject = serde_json::from_str(r#"{"metadata": {"name": "cart"}}"#).unwrap();
        assert!(object.annotations().is_none() && object.into_annotations().is_empty());
    }
}
