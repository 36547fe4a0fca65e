//! The labels and annotations of pods and namespaces that injection reads or writes.
//!
//! Names that begin with `eks.amazonaws.com` are those of AWS's webhook (its `pkg/annotations.go` and `pkg/handler`).

/// Label of a pod or namespace: with the value `enabled`, pods get Pod Identity without an association.
pub(super) const INJECT: &str = "podidentity.dev/inject";
/// Label of a pod or namespace: with the value `true`, pods without credentials are refused.
pub(super) const REQUIRE: &str = "podidentity.dev/require";
/// Label of a pod, of any value: the pod is not injected.
pub(super) const SKIP: &str = "eks.amazonaws.com/skip-pod-identity-webhook";
/// Label of a pod that was injected with Pod Identity. AWS's webhook sets the same one.
pub(super) const POD_IDENTITY: &str = "eks.amazonaws.com/pod-identity";

/// Annotation of a mirror pod, by which the API server shows a static pod (`pkg/apis/core/annotation_key_constants.go`).
pub(super) const MIRROR_POD: &str = "kubernetes.io/config.mirror";
/// Prefix of annotations of a pod that give one container a role. The container's name follows.
pub(super) const CONTAINER_ROLE: &str = "podidentity.dev/role-arn.";
/// Annotation of a service account that sends IRSA through the agent.
pub(super) const IRSA_THROUGH_AGENT: &str = "podidentity.dev/irsa-through-agent";

/// Annotations with the prefix of the [settings](super::settings::Settings), without that prefix.
pub(super) const SKIP_CONTAINERS: &str = "skip-containers";
pub(super) const TOKEN_EXPIRATION: &str = "token-expiration";
pub(super) const ROLE_ARN: &str = "role-arn";
pub(super) const AUDIENCE: &str = "audience";
pub(super) const REGIONAL_STS: &str = "sts-regional-endpoints";

/// The labels of nodes that name their operating system (Kubernetes reference, *Well-Known Labels*).
pub(super) const OS: [&str; 2] = ["kubernetes.io/os", "beta.kubernetes.io/os"];

/// Returns whether injection reads a pod's label.
pub(super) fn is_pod_label(key: &str) -> bool {
    [INJECT, REQUIRE, SKIP, POD_IDENTITY].contains(&key)
}

/// Returns whether injection reads a pod's annotation, with any prefix that the settings may have.
pub(super) fn is_pod_annotation(key: &str) -> bool {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    name == SKIP_CONTAINERS
        || name == TOKEN_EXPIRATION
        || key == MIRROR_POD
        || key.starts_with(CONTAINER_ROLE)
}
