//! Another mutating webhook, as service meshes have one: it adds a container to each pod, by one URL.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use kube::Client;
use pod_identity_runtime::http::{json, read_body};
use pod_identity_runtime::listener::{Connections, Handler, Limits, Listener, Peer};
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::{CertificateFiles, ServerTls, TlsVersion};
use serde_json::{Value, json as value};
use testing::authority::Authority;
use testing::cluster::{self, pod_address};

struct Sidecar;

impl Handler for Sidecar {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        let body = read_body(request.into_body(), 1 << 20).await.unwrap();
        let review: Value = serde_json::from_slice(&body).unwrap();
        let pod = &review["request"]["object"];
        let there = pod["spec"]["containers"].as_array().unwrap().iter().any(|one| one["name"] == "proxy");
        let container = value!({"name": "proxy", "image": "proxy"});
        let patch = match there {
            true => value!([]),
            false => value!([{"op": "add", "path": "/spec/containers/-", "value": container}]),
        };
        let answer = value!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {
                "uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch",
                "patch": STANDARD.encode(patch.to_string()),
            },
        });
        json(StatusCode::OK, &answer)
    }
}

/// Serves it until the end of the runtime, for the pods of a namespace; the API server calls it in the order
/// of the configurations' names.
pub(crate) async fn serve(client: &Client, configuration: &str, namespace: &str) {
    let authority = Authority::new();
    let (certificate, key) = authority.pair_for(&[&pod_address(2).to_string()]);
    std::fs::write(authority.certificate_file(), certificate).unwrap();
    std::fs::write(authority.key_file(), key).unwrap();
    let files = CertificateFiles { certificate: authority.certificate_file(), key: authority.key_file() };
    let tls = ServerTls::read(files, TlsVersion::V1_2).unwrap();
    // Longer than the API server keeps a connection that it does not use.
    let limits = Limits { head: Duration::from_secs(120), ..Limits::default() };
    let listener = Listener::bind((pod_address(2), 0).into()).await.unwrap();
    let listener = listener.with_tls(tls).with_connections(Connections::new(limits));
    let url = format!("https://{}/", listener.address().unwrap());
    tokio::spawn(listener.serve(Arc::new(Sidecar), Shutdown::never()));
    let configuration = value!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": configuration},
        "webhooks": [{
            "name": "sidecar.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": url, "caBundle": STANDARD.encode(authority.ca_pem())},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
            }],
        }],
    });
    cluster::apply_object(client, &configuration).await;
}
