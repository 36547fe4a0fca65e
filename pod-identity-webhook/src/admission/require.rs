//! The label `podidentity.dev/require=true`: a pod is kept out rather than let in without credentials.

use crate::knowledge::Freshness;
use pod_identity_core::inject::{
    Injection, InjectionOutcome, NamespaceSettings, Pod, Skip, Warning, WarningReason,
};

/// Who asks that a pod must be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nobody: it is let in, whatever becomes of it.
    None,
    /// Its namespace, which also has pods that need no role: one whose account has none is let in.
    Namespace,
    /// The pod itself says that it needs a role.
    Pod,
}

/// Why a pod is kept out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cause {
    /// As a metric's label.
    pub(super) reason: &'static str,
    /// The cause, for people; and what they can do about it, unless the cause says that too.
    text: String,
    fix: Option<String>,
}

/// The account has no role.
pub(super) const NO_ROLE: &str = "no_role";
/// What is known of the account may be old.
pub(super) const NOT_FRESH: &str = "not_fresh";

impl Requirement {
    /// What is asked for a pod in a namespace.
    pub(super) fn of(pod: &Pod<'_>, namespace: NamespaceSettings) -> Self {
        Self::new(pod.requires(), namespace)
    }

    /// What is asked by a pod's label and its namespace's: the pod's own asks for more.
    pub(super) fn new(pod: bool, namespace: NamespaceSettings) -> Self {
        match (pod, namespace.require) {
            (true, _) => Self::Pod,
            (false, true) => Self::Namespace,
            (false, false) => Self::None,
        }
    }

    /// Why the pod is to be kept out, if it is.
    pub(super) fn keeps_out(self, injection: &Injection, freshness: &Freshness) -> Option<Cause> {
        // kubelet runs a static pod whether or not the API server has a picture of it.
        if self == Self::None || injection.outcome == InjectionOutcome::Skipped(Skip::MirrorPod) {
            return None;
        }
        if let Some(failure) = freshness.failure() {
            return Some(Cause { reason: NOT_FRESH, text: failure.to_string(), fix: None });
        }
        // A container with credentials of another method does not go without.
        let without = |notice: &&Warning| !matches!(notice.reason, WarningReason::InjectedOtherwise { .. });
        if let Some(notice) = injection.missed().find(without) {
            let text = notice.to_string();
            return Some(Cause {
                reason: notice.reason.as_str(),
                text: text.strip_prefix("pod-identity: ").map_or(text.clone(), str::to_owned),
                fix: notice.reason.fix().map(str::to_owned),
            });
        }
        (self == Self::Pod && injection.outcome == InjectionOutcome::NoRole).then(|| Cause {
            reason: NO_ROLE,
            text: "nothing gives its service account a role".to_owned(),
            fix: Some(format!(
                "annotate the account with a role, associate it with one, or label the pod {}=enabled",
                NamespaceSettings::INJECT
            )),
        })
    }

    /// What whoever creates the pod is told.
    pub(super) fn refusal(self, cause: &Cause) -> String {
        let who = match self {
            Self::Namespace => "its namespace",
            Self::Pod | Self::None => "the pod",
        };
        let fix = cause.fix.as_ref().map(|fix| format!(". To mend it, {fix}")).unwrap_or_default();
        let label = NamespaceSettings::REQUIRE;
        format!("pod-identity: {}{fix}. The label {label}=true of {who} keeps it out otherwise", cause.text)
    }
}

impl Cause {
    /// A pod that cannot be read.
    pub(super) fn unreadable(reason: &str) -> Self {
        let fix = "use a version of pod-identity-webhook that knows this form of a pod".to_owned();
        Self { reason: super::metrics::UNREADABLE, text: reason.to_owned(), fix: Some(fix) }
    }
}
