//! What people, controllers and kubelet make in a cluster.

use std::net::SocketAddrV4;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const FIELD_MANAGER: &str = "tests";

/// Applies manifests, one or more YAML documents, as `kubectl apply --server-side --force-conflicts` does.
///
/// # Panics
/// Where the API server refuses one, or does not know its kind.
pub async fn apply(client: &Client, manifests: &str) {
    for object in documents(manifests) {
        apply_object(client, &object).await;
    }
}

/// The objects of manifests.
///
/// # Panics
/// Where they are no YAML.
pub fn documents(manifests: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifests).expect("YAML")
}

/// As [`apply`], one object.
///
/// # Panics
/// As [`apply`].
pub async fn apply_object(client: &Client, object: &Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").rsplit_once('/').unwrap_or(("", text("/apiVersion")));
    let kind = GroupVersionKind::gvk(group, version, text("/kind"));
    let (resource, _) = kube::discovery::pinned_kind(client, &kind).await.expect("a kind that is known");
    let api = api(client, text("/metadata/namespace"), &resource);
    let how = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(text("/metadata/name"), &how, &Patch::Apply(object)).await.expect("to be applied");
}

fn api(client: &Client, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        "" => Api::all_with(client.clone(), resource),
        namespace => Api::namespaced_with(client.clone(), namespace, resource),
    }
}

/// Makes a namespace with these labels, and its account `default`, which else a controller makes. Without it
/// no pod of the namespace is let in.
///
/// # Panics
/// Where there is one already.
pub async fn namespace(client: &Client, name: &str, labels: &[(&str, &str)]) {
    let namespace = json!({"metadata": {"name": name, "labels": map(labels)}});
    create::<Namespace>(&Api::all(client.clone()), namespace).await;
    account(client, name, "default", &[]).await;
}

/// Makes a service account with these annotations.
///
/// # Panics
/// Where there is one already.
pub async fn account(client: &Client, namespace: &str, name: &str, annotations: &[(&str, &str)]) {
    let account = json!({"metadata": {"name": name, "annotations": map(annotations)}});
    create::<ServiceAccount>(&Api::namespaced(client.clone(), namespace), account).await;
}

/// A token of an account, as kubelet asks for it; bound to the pod if there is one.
///
/// # Panics
/// Where the API server refuses.
pub async fn token(
    client: &Client,
    namespace: &str,
    account: &str,
    pod: Option<&Pod>,
    audiences: &[&str],
    seconds: i64,
) -> String {
    let bound_object_ref = pod.map(|pod| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    });
    let spec = TokenRequestSpec {
        audiences: Some(audiences.iter().map(|&audience| audience.to_owned()).collect()),
        bound_object_ref,
        expiration_seconds: Some(seconds),
        ..TokenRequestSpec::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let answer = api.create_token_request(account, &PostParams::default(), &request).await;
    answer.expect("to be answered").status.and_then(|status| status.token).expect("a token")
}

/// Says where a Service is served: EndpointSlices, which else a controller makes of the pods that are
/// ready. Those of before go. The Service is made where there is none; its port is 443.
///
/// # Panics
/// Where the API server refuses.
pub async fn serve(client: &Client, namespace: &str, service: &str, endpoints: &[SocketAddrV4]) {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    if services.get_opt(service).await.expect("an answer").is_none() {
        create(&services, json!({"metadata": {"name": service}, "spec": {"ports": [{"port": 443}]}})).await;
    }
    let spec = services.get(service).await.expect("an answer").spec.unwrap_or_default();
    // A port of the Service and one of an EndpointSlice belong together by name.
    let port_name = spec.ports.unwrap_or_default().first().and_then(|port| port.name.clone());
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let label = format!("kubernetes.io/service-name={service}");
    let mut before = slices.list(&ListParams::default().labels(&label)).await.expect("an answer").items;
    for endpoint in endpoints {
        // One for each: an EndpointSlice has its ports for all of its addresses.
        let name = format!("{service}-{}-{}", endpoint.ip(), endpoint.port());
        before.retain(|slice| slice.name_any() != name);
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": port_name, "port": endpoint.port()}],
            "endpoints": [{"addresses": [endpoint.ip()], "conditions": {"ready": true}}],
        });
        let how = PatchParams::apply(FIELD_MANAGER).force();
        slices.patch(&name, &how, &Patch::Apply(&slice)).await.expect("an EndpointSlice");
    }
    for slice in before {
        slices.delete(&slice.name_any(), &DeleteParams::default()).await.expect("to be deleted");
    }
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let object = serde_json::from_value(object).expect("an object of its kind");
    api.create(&PostParams::default(), &object).await.expect("to be created");
}

fn map(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|&(key, value)| (key.to_owned(), Value::from(value))).collect()
}
