//! A service account, as far as it is looked at: its metadata.
//!
//! The API server is asked for metadata only, and of that `managedFields`, the largest part, is never kept. Nor
//! are annotations that mean nothing to this program, which others may fill with 256 KiB.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Resource;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use pod_identity_core::inject::ServiceAccountSettings;

/// How long an annotation's value may be, in bytes: a role's ARN has 2,048 characters at most (*IAM API
/// Reference*, `arnType`).
const LONGEST: usize = 2048;

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
            annotations: Option<Annotations>,
        }
        let Object { metadata } = Object::deserialize(deserializer)?;
        Ok(Self(ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            resource_version: metadata.resource_version,
            annotations: metadata.annotations.map(|Annotations(kept)| kept),
            ..ObjectMeta::default()
        }))
    }
}

/// The annotations that are read, under whichever prefix.
struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kept;
        impl<'de> Visitor<'de> for Kept {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                let mut kept = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key
                        .rsplit_once('/')
                        .is_some_and(|(_, name)| ServiceAccountSettings::ANNOTATIONS.contains(&name))
                    {
                        kept.insert(key, bounded(map.next_value()?));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Annotations(kept))
            }
        }
        deserializer.deserialize_map(Kept)
    }
}

/// The beginning of a text that is too long to be anything. The sign at its end sees to it that the beginning is
/// not taken for a role, a number or a name itself.
fn bounded(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
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
    fn what_is_kept_says_the_same_as_the_whole() {
        use pod_identity_core::inject::ServiceAccountSettings;
        use pod_identity_core::inject::Settings;

        for prefix in ["eks.amazonaws.com", "irsa.example.com"] {
            let settings = Settings { annotation_prefix: prefix.to_owned(), ..Settings::default() };
            let all: BTreeMap<String, String> = [
                (format!("{prefix}/role-arn"), "arn:aws:iam::111122223333:role/app"),
                (format!("{prefix}/audience"), "a"),
                (format!("{prefix}/token-expiration"), "3600"),
                (format!("{prefix}/sts-regional-endpoints"), "true"),
                ("podidentity.dev/irsa-through-agent".to_owned(), "true"),
                ("example.com/note".to_owned(), "x"),
                ("bare".to_owned(), "x"),
            ]
            .map(|(key, value)| (key, value.to_owned()))
            .into();
            let json = serde_json::json!({"metadata": {"name": "cart", "annotations": all}});
            let kept = serde_json::from_value::<AccountObject>(json).unwrap().into_annotations();
            assert_eq!(kept.len(), ServiceAccountSettings::ANNOTATIONS.len());
            let said = ServiceAccountSettings::from_annotations(&kept, &settings);
            assert_eq!(said, ServiceAccountSettings::from_annotations(&all, &settings));
            assert!(said.role.is_some() && said.audience.is_some() && said.token_expiration.is_some());
            assert!(said.regional_sts.is_some() && said.through_agent);
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_and_cannot_be_taken_for_another() {
        assert_eq!(bounded("a".repeat(LONGEST)), "a".repeat(LONGEST));
        let two_bytes = bounded("é".repeat(LONGEST));
        assert_eq!(two_bytes, format!("{}…", "é".repeat(LONGEST / 2)));
        let odd = bounded(format!("a{}", "é".repeat(LONGEST)));
        assert_eq!(odd, format!("a{}…", "é".repeat(LONGEST / 2 - 1)));
        let role = bounded(format!("arn:aws:iam::111122223333:role/app{}x", " ".repeat(LONGEST)));
        assert!(role.trim().ends_with('…'));
    }

    #[test]
    fn an_account_without_annotations_says_nothing() {
        let object: AccountObject = serde_json::from_str(r#"{"metadata": {"name": "cart"}}"#).unwrap();
        assert!(object.annotations().is_none() && object.into_annotations().is_empty());
    }
}
