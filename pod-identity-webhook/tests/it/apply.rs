use pod_identity_webhook::mutate::Patch;
use serde_json::{Value, json};

/// The pod as the API server has it after the patch.
pub(crate) fn apply(pod: &Value, patch: &Patch) -> Value {
    let patch: json_patch::Patch = serde_json::from_value(json!(patch)).unwrap();
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    patched
}
