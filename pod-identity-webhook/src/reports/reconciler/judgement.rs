//! What a pod that is there lacks.

use k8s_openapi::api::core::v1::ObjectReference;
use pod_identity_core::identity::{Namespace, ServiceAccount};
use serde::{Deserialize, Serialize};

use crate::account::Known;
use crate::mutate::notice::{Notice, Reason};
use crate::mutate::{Mutation, Outcome, mutate};
use crate::object::Object;
use crate::pod::{InvalidPod, Pod};
use crate::settings::Settings;

/// A pod as the API server lists it: which one it is, and what injection looks at.
#[derive(Debug, Clone)]
pub(super) struct ListedPod<'a> {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    /// On its way out: what it lacks, nobody needs any more.
    pub(super) deleted: bool,
    pub(super) pod: Pod<'a>,
}

#[derive(Deserialize)]
struct Envelope {
    metadata: Object<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

/// A pod without what its account has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
    /// Why it is one: `not_injected`, `role_differs` or one of the reasons of an admission.
    pub reason: &'static str,
    /// The same in words, with what to do.
    pub message: String,
    /// When it was found, in RFC 3339.
    pub found: String,
}

impl<'a> ListedPod<'a> {
    pub(super) fn parse(json: &'a str) -> Result<Self, InvalidPod> {
        let pod = Pod::parse(json)?;
        let Object(envelope): Object<Envelope> = serde_json::from_str(json)?;
        let Object(Metadata { name, namespace, uid, deletion_timestamp }) = envelope.metadata;
        Ok(Self { name, namespace, uid, deleted: deletion_timestamp.is_some(), pod })
    }

    /// Its account. Names that are none, the API server takes from nobody.
    pub(super) fn account(&self) -> Option<(Namespace, ServiceAccount)> {
        Some((self.namespace.parse().ok()?, self.pod.service_account().parse().ok()?))
    }

    /// What it lacks of what is known, if anything: what the admission of such a pod would add or complain of.
    /// `found` is the time.
    pub(super) fn lacks(&self, known: &Known, settings: &Settings, found: &str) -> Option<Finding> {
        if self.deleted {
            return None;
        }
        let (reason, message) = lack(&mutate(&self.pod, known, settings, 0))?;
        Some(Finding {
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            uid: self.uid.clone(),
            service_account: self.pod.service_account().to_owned(),
            reason,
            message,
            found: found.to_owned(),
        })
    }
}

impl Finding {
    /// The pod, for an Event about it.
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

/// The reason of a pod that would be injected, were it created now.
pub(super) const NOT_INJECTED: &str = "not_injected";

/// A word for metrics, and a sentence for people.
fn lack(mutation: &Mutation) -> Option<(&'static str, String)> {
    let of = |notice: &Notice| (notice.reason.as_str(), notice.to_string());
    let differs = |notice: &&Notice| matches!(notice.reason, Reason::RoleDiffers { .. });
    match mutation.outcome {
        Outcome::Injected => Some((
            NOT_INJECTED,
            "pod-identity: its service account has a role, but the pod was created without it: before the \
             account had one, or while the webhook did not answer. Delete the pod, so that its owner makes a new one"
                .to_owned(),
        )),
        Outcome::Missed => mutation.missed().next().map(of),
        Outcome::AlreadyInjected => mutation.notices.iter().find(differs).map(of),
        Outcome::Skipped(_) | Outcome::NoRole => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{AccountSettings, Role};

    const ROLE: &str = "arn:aws:iam::111122223333:role/cart";

    fn known(role: &str) -> Known {
        let role = Role::parse(role, &Settings::default());
        Known { account: AccountSettings { role, ..AccountSettings::default() }, ..Known::default() }
    }

    fn reason(metadata: &str, container: &str, known: &Known) -> Option<&'static str> {
        let json = format!(
            r#"{{"metadata": {{"name": "cart-1", "namespace": "shop", "uid": "u1"{metadata}}}, "spec": {{
                "volumes": [{{"name": "aws-iam-token", "projected": {{"sources": [{{"serviceAccountToken": {{
                    "audience": "sts.amazonaws.com", "path": "token"}}}}]}}}}],
                "serviceAccountName": "cart", "containers": [{{"name": "app"{container}}}]}}}}"#
        );
        let found = ListedPod::parse(&json).unwrap().lacks(known, &Settings::default(), "now")?;
        assert_eq!((&*found.namespace, &*found.pod, &*found.uid), ("shop", "cart-1", "u1"));
        assert_eq!(found.service_account, "cart");
        Some(found.reason)
    }

    #[test]
    fn a_pod_lacks_what_an_admission_would_add_or_complain_of() {
        let injected = format!(
            r#", "env": [{{"name": "AWS_ROLE_ARN", "value": "{ROLE}"}}, {{"name": "AWS_WEB_IDENTITY_TOKEN_FILE",
                "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"}}],
                "volumeMounts": [{{"name": "aws-iam-token",
                "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount"}}]"#
        );
        let own = r#", "env": [{"name": "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "value": "/mine"}]"#;
        let own_role = r#", "env": [{"name": "AWS_ROLE_ARN", "value": "mine"}]"#;
        let (with, other) = (known(ROLE), known("arn:aws:iam::111122223333:role/other"));
        assert_eq!(reason("", "", &with), Some("not_injected"));
        assert_eq!(reason("", "", &Known::default()), None);
        assert_eq!(reason("", "", &Known { associated: true, ..Known::default() }), Some("not_injected"));
        assert_eq!(reason("", &injected, &with), None);
        assert_eq!(reason("", &injected, &other), Some("role_differs"));
        assert_eq!(reason("", own, &with), Some("own_variables"));
        assert_eq!(reason("", own_role, &with), Some("not_injected"));
        assert_eq!(reason(r#", "deletionTimestamp": "2026-11-22T12:00:00Z""#, "", &with), None);
        let skip = r#", "labels": {"eks.amazonaws.com/skip-pod-identity-webhook": ""}"#;
        assert_eq!(reason(skip, "", &with), None);
    }

    #[test]
    fn what_has_no_name_or_uid_is_no_pod_that_is_there() {
        for metadata in ["{}", r#"{"name": "a", "namespace": "b"}"#, r#"["a", "b", "c"]"#] {
            let json = format!(r#"{{"metadata": {metadata}, "spec": {{"containers": []}}}}"#);
            assert!(ListedPod::parse(&json).is_err(), "{metadata}");
        }
    }
}
