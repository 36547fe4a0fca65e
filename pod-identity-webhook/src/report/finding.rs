//! What one running pod lacks.

use k8s_openapi::api::core::v1::ObjectReference;
use pod_identity_core::identity::{Namespace, ServiceAccount};
use pod_identity_core::inject::{
    Injection, InjectionOutcome, Injector, Pod, ServiceAccountFacts, Warning, WarningReason,
};
use serde::{Deserialize, Serialize};

/// The reason of a pod that would be injected if it were created now.
pub(super) const NOT_INJECTED: &str = "not_injected";

/// A pod in a list of the API server: its names, and the parts that injection reads.
#[derive(Debug, Clone)]
pub(super) struct ListedPod<'a> {
    name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    /// Whether it is being deleted: it needs no credentials any more.
    pub(super) deleted: bool,
    pod: Pod<'a>,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

/// A running pod that lacks what its service account has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) namespace: String,
    /// The pod's name.
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) service_account: String,
    /// `not_injected`, `role_differs` or another reason of admission warnings.
    pub(super) reason: &'static str,
    /// The reason as a sentence, with the fix.
    pub(super) message: String,
}

impl<'a> ListedPod<'a> {
    pub(super) fn parse(json: &'a str) -> Option<Self> {
        let pod = Pod::parse(json).ok()?;
        let Object { metadata: Metadata { name, namespace, uid, deletion_timestamp } } =
            serde_json::from_str(json).ok()?;
        Some(Self { name, namespace, uid, deleted: deletion_timestamp.is_some(), pod })
    }

    /// Returns the pod's service account with its namespace; `None` if the API server would accept neither name.
    pub(super) fn service_account(&self) -> Option<(Namespace, ServiceAccount)> {
        Some((self.namespace.parse().ok()?, self.pod.service_account().parse().ok()?))
    }

    /// Returns what the pod lacks: what an admission of this pod would add or warn of.
    pub(super) fn lacks(&self, facts: &ServiceAccountFacts, injector: &Injector) -> Option<Finding> {
        let (reason, message) = lack(&injector.inject(&self.pod, facts, 0))?;
        Some(Finding {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            uid: self.uid.clone(),
            service_account: self.pod.service_account().to_owned(),
            reason,
            message,
        })
    }
}

impl Finding {
    /// Returns the pod that an Event is about.
    pub(super) fn object(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(self.pod.clone()),
            namespace: Some(self.namespace.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

fn lack(injection: &Injection) -> Option<(&'static str, String)> {
    let of = |warning: &Warning| (warning.reason.as_str(), warning.to_string());
    let differs = |warning: &&Warning| matches!(warning.reason, WarningReason::RoleDiffers { .. });
    match injection.outcome {
        InjectionOutcome::Injected => Some((
            NOT_INJECTED,
            "pod-identity: the service account has a role, but the pod was created without it: before the service \
             account had a role, or while the webhook did not answer. Delete the pod, so that its owner creates a \
             new one"
                .to_owned(),
        )),
        InjectionOutcome::Missed => injection.missed().next().map(of),
        InjectionOutcome::AlreadyInjected => injection.warnings.iter().find(differs).map(of),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use pod_identity_core::inject::{Role, ServiceAccountSettings, Settings};

    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/cart";

    fn facts(role: &str) -> ServiceAccountFacts {
        let role = Role::parse(role, &Settings::default());
        let settings = ServiceAccountSettings { role, ..ServiceAccountSettings::default() };
        ServiceAccountFacts { settings, ..ServiceAccountFacts::default() }
    }

    fn reason(metadata: &str, container: &str, facts: &ServiceAccountFacts) -> Option<&'static str> {
        let json = format!(
            r#"{{"metadata": {{"name": "cart-1", "namespace": "shop", "uid": "u1"{metadata}}}, "spec": {{
                "volumes": [{{"name": "aws-iam-token", "projected": {{"sources": [{{"serviceAccountToken": {{
                    "audience": "sts.amazonaws.com", "path": "token"}}}}]}}}}],
                "serviceAccountName": "cart", "containers": [{{"name": "app"{container}}}]}}}}"#
        );
        let found = ListedPod::parse(&json).unwrap().lacks(facts, &Injector::new(Settings::default()))?;
        assert_eq!((&*found.namespace, &*found.pod, &*found.uid), ("shop", "cart-1", "u1"));
        assert_eq!(found.service_account, "cart");
        Some(found.reason)
    }

    #[test]
    fn a_pod_lacks_what_an_admission_would_add_or_warn_of() {
        let injected = format!(
            r#", "env": [{{"name": "AWS_ROLE_ARN", "value": "{ROLE}"}}, {{"name": "AWS_WEB_IDENTITY_TOKEN_FILE",
                "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"}}],
                "volumeMounts": [{{"name": "aws-iam-token",
                "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount"}}]"#
        );
        let own = r#", "env": [{"name": "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "value": "/mine"}]"#;
        let own_role = r#", "env": [{"name": "AWS_ROLE_ARN", "value": "mine"}]"#;
        let (with, other) = (facts(ROLE), facts("arn:aws:iam::111122223333:role/other"));
        let (without, default) = (ServiceAccountFacts::default(), ServiceAccountFacts::default());
        assert_eq!(reason("", "", &with), Some("not_injected"));
        assert_eq!(reason("", "", &without), None);
        assert_eq!(
            reason("", "", &ServiceAccountFacts { associated: true, ..default }),
            Some("not_injected")
        );
        assert_eq!(reason("", &injected, &with), None);
        assert_eq!(reason("", &injected, &other), Some("role_differs"));
        assert_eq!(reason("", own, &with), Some("own_variables"));
        assert_eq!(reason("", own_role, &with), Some("not_injected"));
        let skip = r#", "labels": {"eks.amazonaws.com/skip-pod-identity-webhook": ""}"#;
        assert_eq!(reason(skip, "", &with), None);
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_recognized() {
        let deleted = |metadata: &str| {
            let json = format!(
                r#"{{"metadata": {{"name": "a", "namespace": "b", "uid": "c"{metadata}}},
                    "spec": {{"containers": []}}}}"#
            );
            ListedPod::parse(&json).unwrap().deleted
        };
        assert!(deleted(r#", "deletionTimestamp": "2026-11-22T12:00:00Z""#) && !deleted(""));
    }

    #[test]
    fn a_pod_without_name_or_uid_is_not_parsed() {
        for metadata in ["{}", r#"{"name": "a", "namespace": "b"}"#, r#"["a", "b", "c"]"#] {
            let json = format!(r#"{{"metadata": {metadata}, "spec": {{"containers": []}}}}"#);
            assert!(ListedPod::parse(&json).is_none(), "{metadata}");
        }
    }
}
