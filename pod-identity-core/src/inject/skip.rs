//! Pods and containers that are not injected because they ask for it.

use std::collections::HashSet;

use super::names;
use super::pod::Pod;
use super::prepared::Prepared;
use super::service_account::NamespaceSettings;

/// Why a pod is not injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skip {
    /// The pod is the mirror of a static pod. The static pod runs already and may use no service account.
    MirrorPod,
    /// The pod has the label `eks.amazonaws.com/skip-pod-identity-webhook`. The webhook configuration excludes such pods too.
    Label,
    /// The annotation `skip-containers` names all containers that would be injected.
    Containers,
}

/// Returns why no container of the pod is injected.
pub(super) fn whole_pod(pod: &Pod<'_>, namespace: NamespaceSettings) -> Option<Skip> {
    if pod.annotation(names::MIRROR_POD).is_some() {
        return Some(Skip::MirrorPod);
    }
    let required = namespace.require || pod.requires();
    (pod.label(names::SKIP).is_some() && !required).then_some(Skip::Label)
}

/// Returns the containers that the annotation `skip-containers` names. AWS's webhook reads the annotation as CSV, where a
/// name may be quoted.
pub(super) fn containers<'p>(pod: &'p Pod<'_>, prepared: &Prepared) -> HashSet<&'p str> {
    let names = pod.annotation(&prepared.skip_containers).unwrap_or_default();
    names
        .split(',')
        .map(|name| name.trim().trim_matches('"').trim())
        .filter(|name| !name.is_empty())
        .collect()
}
