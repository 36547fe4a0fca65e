//! The control plane for tests: tokens, discovery, RBAC and cleanup.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use testing::cluster::{API_ADDRESS, Cluster, ISSUER, apply, namespace, service_account, token};

const AUDIENCE: &str = "pods.eks.amazonaws.com";

#[test]
fn pod_token_is_signed_with_a_discoverable_key() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let client = cluster.client().await;
        namespace(&client, "tokens", &[]).await;
        service_account(&client, "tokens", "app", &[]).await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "tokens");
        let containers = json!([{"name": "app", "image": "app"}]);
        let spec = json!({"serviceAccountName": "app", "containers": containers});
        let pod = serde_json::from_value(json!({"metadata": {"name": "app-1"}, "spec": spec})).unwrap();
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();

        let token = token(&client, "tokens", "app", Some(&pod), &[AUDIENCE], 86_400).await;
        let [header, claims] = parts(&token);
        assert_eq!(claims["aud"], json!([AUDIENCE]));
        assert_eq!(claims["iss"], ISSUER);
        assert_eq!(claims["sub"], "system:serviceaccount:tokens:app");
        assert_eq!(claims["kubernetes.io"]["pod"]["uid"], pod.uid().unwrap());
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 86_400);

        let found = get(&client, "/.well-known/openid-configuration").await;
        assert_eq!(found["issuer"], ISSUER);
        let uri: http::Uri = found["jwks_uri"].as_str().unwrap().parse().unwrap();
        assert_eq!(uri.host().unwrap(), API_ADDRESS.to_string());
        let keys = get(&client, uri.path()).await;
        let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]);
        assert_eq!((&header["alg"], &key.unwrap()["kty"]), (&json!("RS256"), &json!("RSA")));
    });
}

#[test]
fn service_account_has_the_rights_that_rbac_grants() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let client = cluster.client().await;
        namespace(&client, "rights", &[]).await;
        let kubeconfig = cluster.kubeconfig_of("rights", "default").await;
        let service_account_client = testing::cluster::client(&kubeconfig).await;
        let secrets: Api<Secret> = Api::namespaced(service_account_client, "rights");
        let refused = secrets.list(&ListParams::default()).await.unwrap_err().to_string();
        assert!(refused.contains("system:serviceaccount:rights:default\" cannot list resource"), "{refused}");

        apply(
            &client,
            "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: rights}
rules: [{apiGroups: [''], resources: [secrets], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: rights}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: default, namespace: rights}]
",
        )
        .await;
        testing::eventually::eventually("the role is effective", async || {
            secrets.list(&ListParams::default()).await.ok()
        })
        .await;
    });
}

/// The shared cluster ends in the same way at the end of the process.
#[test]
fn dropping_a_cluster_removes_its_processes_and_files() {
    let Some(cluster) = Cluster::start() else { return };
    let directory = cluster.kubeconfig().parent().unwrap().to_owned();
    let programs = cluster.run(async || processes_in_namespace());
    let names: Vec<_> = programs.iter().map(|(_, name)| name.as_str()).collect();
    assert!(names.contains(&"etcd") && names.contains(&"kube-apiserver"), "{names:?}");
    drop(cluster);
    assert!(!directory.exists());
    let remaining: Vec<_> =
        programs.iter().filter(|(pid, _)| Path::new(&format!("/proc/{pid}")).exists()).collect();
    assert!(remaining.is_empty(), "{remaining:?}");
}

/// Returns the ids and names of the processes in the network namespace of this thread.
fn processes_in_namespace() -> Vec<(u32, String)> {
    let namespace = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link == namespace))
        .filter_map(|pid| {
            Some((pid, std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned()))
        })
        .collect()
}

fn parts(token: &str) -> [Value; 2] {
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    [(); 2].map(|()| serde_json::from_slice(&parts.next().unwrap()).unwrap())
}

async fn get(client: &Client, path: &str) -> Value {
    client.request(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
}
