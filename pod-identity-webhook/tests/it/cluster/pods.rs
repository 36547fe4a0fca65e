//! Pods: made by a client as people use it, and what the API server has made of them.

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

pub(crate) const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
pub(crate) const ROLE_ARN: &str = "AWS_ROLE_ARN";

pub(crate) fn pod(name: &str, account: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"serviceAccountName": account, "containers": [{"name": "app", "image": "app"}]},
    })
}

/// Makes a pod, and reads back what is stored.
pub(crate) async fn create(client: &Client, namespace: &str, pod: Value) -> kube::Result<Pod> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let created = api.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await?;
    api.get(&created.name_any()).await
}

/// What the API server would make of a pod.
pub(crate) async fn create_dry(client: &Client, namespace: &str, pod: Value) -> kube::Result<Pod> {
    let how = PostParams { dry_run: true, ..PostParams::default() };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    api.create(&how, &serde_json::from_value(pod).unwrap()).await
}

pub(crate) fn containers(pod: &Pod) -> &[Container] {
    &pod.spec.as_ref().unwrap().containers
}

/// A variable of the first container.
pub(crate) fn variable<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    variable_of(&containers(pod)[0], name)
}

pub(crate) fn variable_of<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let variables = container.env.as_deref().unwrap_or_default();
    variables.iter().find(|variable| variable.name == name)?.value.as_deref()
}

/// Whether each container has what SDKs need for Pod Identity or IRSA: variables, and a mount of a token.
pub(crate) fn is_injected(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().unwrap().volumes.as_deref().unwrap_or_default();
    let projected = |name: &str| {
        let volume = volumes.iter().find(|volume| volume.name == name);
        volume.is_some_and(|volume| volume.projected.is_some())
    };
    containers(pod).iter().all(|container| {
        let file = variable_of(container, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
            .filter(|_| variable_of(container, FULL_URI).is_some())
            .or(variable_of(container, "AWS_WEB_IDENTITY_TOKEN_FILE")
                .filter(|_| variable_of(container, ROLE_ARN).is_some()));
        let mounts = container.volume_mounts.as_deref().unwrap_or_default();
        file.is_some_and(|file| {
            mounts.iter().any(|mount| file.starts_with(&mount.mount_path) && projected(&mount.name))
        })
    })
}
