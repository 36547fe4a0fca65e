use pod_identity_core::inject::Patch;
use serde_json::Value;

/// Applies a patch to a pod as the API server does.
pub(crate) fn apply(pod: &Value, patch: &Patch) -> Value {
    let patch: json_patch::Patch = serde_json::from_str(patch.as_json()).unwrap();
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    patched
}
