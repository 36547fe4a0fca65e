//! The metadata of a service account.
//!
//! Requests ask for metadata only. `managedFields`, its largest part, is skipped, and so are annotations that the webhook does
//! not read: annotations may have 256 KiB.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Resource;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use pod_identity_core::inject::ServiceAccountSettings;

/// Maximum length of an annotation's value in bytes. A role's ARN has at most 2,048 characters (*IAM API Reference*,
/// `arnType`).
const MAX_VALUE: usize = 2048;

/// The name, namespace, version and annotations of a service account.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceAccountObject(ObjectMeta);

impl ServiceAccountObject {
    /// Returns the annotations that the webhook reads.
    pub(super) fn into_annotations(self) -> BTreeMap<String, String> {
        self.0.annotations.unwrap_or_default()
    }

    pub(super) fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.0.annotations.as_ref()
    }
}

impl<'de> Deserialize<'de> for ServiceAccountObject {
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

/// The annotations that the webhook reads, with any prefix.
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

/// Truncates a value that is too long to be valid. The sign at its end makes it invalid as a role, a number or a name.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_VALUE {
        let end = (0..=MAX_VALUE).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

impl Resource for ServiceAccountObject {
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
    fn keeps_name_namespace_version_and_annotations_only() {
        let object: ServiceAccountObject = serde_json::from_str(
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
    fn kept_annotations_give_the_same_settings_as_all_annotations() {
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
            let kept = serde_json::from_value::<ServiceAccountObject>(json).unwrap().into_annotations();
            assert_eq!(kept.len(), ServiceAccountSettings::ANNOTATIONS.len());
            let parsed = ServiceAccountSettings::from_annotations(&kept, &settings);
            assert_eq!(parsed, ServiceAccountSettings::from_annotations(&all, &settings));
            assert!(parsed.role.is_some() && parsed.audience.is_some() && parsed.token_expiration.is_some());
            assert!(parsed.regional_sts.is_some() && parsed.through_agent);
        }
    }

    #[test]
    fn truncates_a_long_value_and_makes_it_invalid() {
        assert_eq!(bounded("a".repeat(MAX_VALUE)), "a".repeat(MAX_VALUE));
        let two_bytes = bounded("é".repeat(MAX_VALUE));
        assert_eq!(two_bytes, format!("{}…", "é".repeat(MAX_VALUE / 2)));
        let odd = bounded(format!("a{}", "é".repeat(MAX_VALUE)));
        assert_eq!(odd, format!("a{}…", "é".repeat(MAX_VALUE / 2 - 1)));
        let role = bounded(format!("arn:aws:iam::111122223333:role/app{}x", " ".repeat(MAX_VALUE)));
        assert!(role.trim().ends_with('…'));
    }

    #[test]
    fn a_service_account_without_annotations_has_no_settings() {
        let object: ServiceAccountObject = serde_json::from_str(r#"{"metadata": {"name": "cart"}}"#).unwrap();
        assert!(object.annotations().is_none() && object.into_annotations().is_empty());
    }
}
