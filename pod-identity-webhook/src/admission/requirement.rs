//! The label `podidentity.dev/require=true`: a pod is refused rather than admitted without credentials.

use pod_identity_core::inject::{
    Injection, InjectionOutcome, NamespaceSettings, Skip, Warning, WarningReason,
};

use super::metrics::{NO_ROLE, NOT_FRESH, UNREADABLE};
use crate::lookup::Freshness;

/// The object whose label requires that a pod is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requirement {
    /// No object: the pod is admitted in any case.
    None,
    /// The namespace. It may have pods that need no role, so a pod whose service account has none is admitted.
    Namespace,
    /// The pod itself. It needs a role.
    Pod,
}

/// Why a required injection is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unmet {
    /// The cause as a metric's label.
    pub(super) reason: &'static str,
    cause: String,
    /// `None` if the cause contains the fix.
    fix: Option<String>,
}

impl Requirement {
    /// Returns the requirement of a pod, by its own label and that of its namespace. The pod's own requires more.
    pub(super) fn new(pod: bool, namespace: NamespaceSettings) -> Self {
        match (pod, namespace.require) {
            (true, _) => Self::Pod,
            (false, true) => Self::Namespace,
            (false, false) => Self::None,
        }
    }

    /// Returns why the pod must be refused.
    pub(super) fn unmet(self, injection: &Injection, freshness: &Freshness) -> Option<Unmet> {
        // The kubelet runs a static pod whether or not the API server has its mirror pod.
        if self == Self::None || injection.outcome == InjectionOutcome::Skipped(Skip::MirrorPod) {
            return None;
        }
        if let Some(failure) = freshness.failure() {
            return Some(Unmet { reason: NOT_FRESH, cause: failure.to_string(), fix: None });
        }
        // A container with credentials by another method lacks none.
        let lacks_credentials =
            |warning: &&Warning| !matches!(warning.reason, WarningReason::InjectedOtherwise { .. });
        if let Some(warning) = injection.missed().find(lacks_credentials) {
            let text = warning.to_string();
            return Some(Unmet {
                reason: warning.reason.as_str(),
                cause: text.strip_prefix("pod-identity: ").map_or(text.clone(), str::to_owned),
                fix: warning.reason.fix().map(str::to_owned),
            });
        }
        (self == Self::Pod && injection.outcome == InjectionOutcome::NoRole).then(|| Unmet {
            reason: NO_ROLE,
            cause: "the pod's service account has no role".to_owned(),
            fix: Some(format!(
                "create an association for the service account, annotate it with a role, or label the pod {}=enabled",
                NamespaceSettings::INJECT
            )),
        })
    }

    /// Returns the message for the client that creates the pod.
    pub(super) fn message(self, unmet: &Unmet) -> String {
        let object = match self {
            Self::Namespace => "the namespace",
            Self::Pod | Self::None => "the pod",
        };
        let fix = unmet.fix.as_ref().map(|fix| format!(": {fix}")).unwrap_or_default();
        let label = NamespaceSettings::REQUIRE;
        format!(
            "pod-identity: {}{fix}. The pod is refused because {object} has the label {label}=true",
            unmet.cause
        )
    }
}

impl Unmet {
    /// A pod that cannot be read.
    pub(super) fn unreadable(reason: &str) -> Self {
        let fix = "use a version of pod-identity-webhook that supports this form of a pod".to_owned();
        Self { reason: UNREADABLE, cause: reason.to_owned(), fix: Some(fix) }
    }
}
