//! Kubernetes objects that users, controllers and kubelet create.

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

/// Applies one or more YAML documents, like `kubectl apply --server-side --force-conflicts`.
///
/// # Panics
/// If the API server rejects an object or does not know its kind.
pub async fn apply(client: &Client, manifests: &str) {
    for object in documents(manifests) {
        apply_object(client, &object).await;
    }
}

/// Parses YAML documents.
///
/// # Panics
/// If the text is not YAML.
pub fn documents(manifests: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(manifests).expect("YAML")
}

/// Applies one object, like [`apply`].
///
/// # Panics
/// Like [`apply`].
pub async fn apply_object(client: &Client, object: &Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").rsplit_once('/').unwrap_or(("", text("/apiVersion")));
    let kind = GroupVersionKind::gvk(group, version, text("/kind"));
    let (resource, _) =
        kube::discovery::pinned_kind(client, &kind).await.expect("the API server knows the kind");
    let api = api(client, text("/metadata/namespace"), &resource);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(text("/metadata/name"), &params, &Patch::Apply(object)).await.expect("the object is applied");
}

fn api(client: &Client, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
    match namespace {
        "" => Api::all_with(client.clone(), resource),
        namespace => Api::namespaced_with(client.clone(), namespace, resource),
    }
}

/// Creates a namespace with these labels and its service account `default`. In a real cluster a controller creates the
/// service account. Without it the API server admits no pods.
///
/// # Panics
/// If the namespace exists.
pub async fn namespace(client: &Client, name: &str, labels: &[(&str, &str)]) {
    let namespace = json!({"metadata": {"name": name, "labels": map(labels)}});
    create::<Namespace>(&Api::all(client.clone()), namespace).await;
    service_account(client, name, "default", &[]).await;
}

/// Creates a service account with these annotations.
///
/// # Panics
/// If the service account exists.
pub async fn service_account(client: &Client, namespace: &str, name: &str, annotations: &[(&str, &str)]) {
    let service_account = json!({"metadata": {"name": name, "annotations": map(annotations)}});
    create::<ServiceAccount>(&Api::namespaced(client.clone(), namespace), service_account).await;
}

/// Requests a service account token, like kubelet. The token is bound to `pod`, if it is given. Without audiences its
/// audience is the API server.
///
/// # Panics
/// If the API server refuses.
pub async fn token(
    client: &Client,
    namespace: &str,
    service_account: &str,
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
    let response = api.create_token_request(service_account, &PostParams::default(), &request).await;
    response.expect("a token response").status.and_then(|status| status.token).expect("a token")
}

/// Sets the endpoints of a Service: creates EndpointSlices for these addresses, and deletes all others. In a real cluster a
/// controller does this. Creates the Service, with port 443, if it does not exist.
///
/// # Panics
/// If the API server refuses.
pub async fn set_endpoints(client: &Client, namespace: &str, service: &str, endpoints: &[SocketAddrV4]) {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    if services.get_opt(service).await.expect("a response").is_none() {
        create(&services, json!({"metadata": {"name": service}, "spec": {"ports": [{"port": 443}]}})).await;
    }
    let spec = services.get(service).await.expect("a response").spec.unwrap_or_default();
    // Ports of a Service and of an EndpointSlice are matched by name.
    let port_name = spec.ports.unwrap_or_default().first().and_then(|port| port.name.clone());
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let label = format!("kubernetes.io/service-name={service}");
    let mut old_slices = slices.list(&ListParams::default().labels(&label)).await.expect("a response").items;
    for endpoint in endpoints {
        // One EndpointSlice for each endpoint, because the ports of an EndpointSlice apply to all its addresses.
        let name = format!("{service}-{}-{}", endpoint.ip(), endpoint.port());
        old_slices.retain(|slice| slice.name_any() != name);
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": port_name, "port": endpoint.port()}],
            "endpoints": [{"addresses": [endpoint.ip()], "conditions": {"ready": true}}],
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        slices.patch(&name, &params, &Patch::Apply(&slice)).await.expect("the EndpointSlice is applied");
    }
    for slice in old_slices {
        slices
            .delete(&slice.name_any(), &DeleteParams::default())
            .await
            .expect("the EndpointSlice is deleted");
    }
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let object = serde_json::from_value(object).expect("an object of this kind");
    api.create(&PostParams::default(), &object).await.expect("the object is created");
}

fn map(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|&(key, value)| (key.to_owned(), Value::from(value))).collect()
}
