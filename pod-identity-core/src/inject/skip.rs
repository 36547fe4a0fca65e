//! Pods and containers that are left as they are because they ask for it.

use std::collections::HashSet;

use super::pod::Pod;
use super::service_account::NamespaceSettings;
use super::settings::Settings;

/// The label, of any value, of a pod that is not to be injected. The webhook configuration leaves such pods out
/// before this program sees them; it is looked at here too, for configurations that do not.
const SKIP_LABEL: &str = "eks.amazonaws.com/skip-pod-identity-webhook";
/// What kubelet puts on the API server's picture of a static pod (kubernetes `pkg/apis/core/annotation_key_constants.go`).
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Why a pod is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// It is a static pod's picture: the pod itself runs already, and may use no service account.
    MirrorPod,
    /// It has the label.
    Label,
    /// All of its containers that would be injected are named in its annotation.
    Containers,
}

/// Whether the whole pod is left as it is.
pub(super) fn whole_pod(pod: &Pod<'_>, namespace: NamespaceSettings) -> Option<Skip> {
    if pod.annotation(MIRROR).is_some() {
        return Some(Skip::MirrorPod);
    }
    let required = namespace.require || pod.requires();
    (pod.label(SKIP_LABEL).is_some() && !required).then_some(Skip::Label)
}

/// The containers that the pod's annotation `skip-containers` names: commas between them, spaces anywhere.
pub(super) fn containers<'p>(pod: &'p Pod<'_>, settings: &Settings) -> HashSet<&'p str> {
    let names = pod.annotation(&settings.annotation("skip-containers")).unwrap_or_default();
    // AWS's webhook reads CSV, where a name may stand in quotes.
    names
        .split(',')
        .map(|name| name.trim().trim_matches('"').trim())
        .filter(|name| !name.is_empty())
        .collect()
}
