//! The startup taint: the agent removes it from its own node, and the admission policy allows nothing else.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, Patch, PatchParams, PostParams};
use pod_identity_agent::app::App;
use pod_identity_agent::config::{AgentAuth, Config, EksAuthConfig};
use pod_identity_agent::startup_taint::StartupTaint;
use pod_identity_runtime::kubernetes::ApiServer;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::{Value, json};
use testing::cluster::{Cluster, apply, documents, namespace, pod_address, service_account, token};
use testing::eventually::eventually;

const RIGHTS: &str = include_str!("../../../deploy/agent/startup-taint/rbac.yaml");
const POLICY: &str = include_str!("../../../deploy/agent/startup-taint/policy.yaml");
const KEY: &str = "podidentity.dev/agent-not-ready";
const NAMESPACE: &str = "startup-taint";

/// The manifests for a namespace of this test.
fn moved(manifests: &str) -> String {
    manifests
        .replace("namespace: pod-identity\n", &format!("namespace: {NAMESPACE}\n"))
        .replace("serviceaccount:pod-identity:", &format!("serviceaccount:{NAMESPACE}:"))
}

fn taints(keys: &[&str]) -> Value {
    keys.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect()
}

async fn keys(nodes: &Api<Node>, name: &str) -> Vec<String> {
    let spec = nodes.get(name).await.unwrap().spec.unwrap();
    spec.taints.unwrap_or_default().into_iter().map(|taint| taint.key).collect()
}

#[test]
fn agent_removes_the_taint_of_its_own_node_and_can_change_nothing_else() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let admin = cluster.client().await;
        namespace(&admin, NAMESPACE, &[]).await;
        service_account(&admin, NAMESPACE, "pod-identity-agent", &[]).await;
        let nodes: Api<Node> = Api::all(admin.clone());
        for name in ["tainted", "another"] {
            let spec = json!({"taints": taints(&["example.com/gpu", KEY])});
            let node = json!({"metadata": {"name": name, "labels": {"zone": "a"}}, "spec": spec});
            nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        }
        let pods: Api<Pod> = Api::namespaced(admin.clone(), NAMESPACE);
        let pod = json!({"metadata": {"name": "agent"}, "spec": {
            "nodeName": "tainted", "serviceAccountName": "pod-identity-agent", "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "agent", "image": "agent"}]}});
        let pod = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let bound = token(&admin, NAMESPACE, "pod-identity-agent", Some(&pod), &["https://172.30.0.1"], 3600).await;
        let path = cluster.kubeconfig_of(NAMESPACE, "pod-identity-agent").await;
        let mut kubeconfig = documents(&std::fs::read_to_string(&path).unwrap()).remove(0);
        kubeconfig["users"][0]["user"] = json!({"token": bound});
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let client = testing::cluster::client(&path).await;

        apply(&admin, &moved(RIGHTS)).await;
        apply(&admin, &moved(POLICY)).await;
        let own: Api<Node> = Api::all(client);
        let patch = async |name: &str, change: Value| {
            let sent = own.patch(name, &PatchParams::default().dry_run(), &Patch::Merge(change)).await;
            sent.map(drop).map_err(|error| error.to_string())
        };
        // The API server adds a taint of its own to a new node.
        let rest = ["example.com/gpu", "node.kubernetes.io/not-ready"];
        assert_eq!(keys(&nodes, "tainted").await, [rest[0], KEY, rest[1]]);
        let removal = json!({"spec": {"taints": taints(&rest)}});
        eventually("rights and policy are in effect", async || {
            let refused = patch("another", removal.clone()).await;
            refused.is_err_and(|message| message.contains("its own node only")).then_some(())
        })
        .await;
        for (change, reason) in [
            (json!({"spec": {"taints": taints(&[])}}), "no other taint"),
            (json!({"spec": {"taints": taints(&[KEY])}}), "no other taint"),
            (json!({"spec": {"taints": taints(&["example.com/gpu"])}}), "no other taint"),
            (json!({"spec": {"taints": taints(&[rest[0], "new", rest[1]])}}), "no other taint"),
            (json!({"metadata": {"labels": {"zone": "b"}}, "spec": removal["spec"]}), "may not change the metadata"),
            (json!({"metadata": {"annotations": {"a": "b"}}, "spec": removal["spec"]}), "may not change the metadata"),
            (json!({"spec": {"taints": removal["spec"]["taints"], "providerID": "x"}}), "nothing of a node but its taints"),
        ] {
            let refused = patch("tainted", change.clone()).await.unwrap_err();
            assert!(refused.contains(reason), "{change}: {refused}");
        }
        patch("tainted", removal).await.unwrap();
        // A token without a node, such as one of another user of the service account, changes nothing.
        let unbound = cluster.kubeconfig_of(NAMESPACE, "pod-identity-agent").await;
        let unbound: Api<Node> = Api::all(testing::cluster::client(&unbound).await);
        let change = Patch::Merge(json!({"spec": {"taints": taints(&rest)}}));
        let refused = unbound.patch("tainted", &PatchParams::default(), &change).await.unwrap_err().to_string();
        assert!(refused.contains("its own node only"), "{refused}");
        // Other users are not limited.
        let change = Patch::Merge(json!({"metadata": {"labels": {"zone": "c"}}}));
        nodes.patch("another", &PatchParams::default(), &change).await.unwrap();

        let eks_auth = EksAuthConfig {
            endpoint: Some("https://127.0.0.1:1".to_owned()),
            agent_auth: AgentAuth::Token { file: directory.path().join("token") },
            outbound: Outbound::default(),
            sdk_config: None,
        };
        let listen = vec![SocketAddr::from((pod_address(210), 0))];
        let mut config = Config::new("demo".parse().unwrap(), listen, eks_auth);
        let api_server = ApiServer { kubeconfig: Some(path), url: None };
        config.startup_taint = Some(StartupTaint { key: KEY.to_owned(), node: "tainted".to_owned(), api_server });
        let agent = App::bind(config).await.unwrap();
        let (_ender, shutdown) = Shutdown::manual();
        tokio::spawn(agent.run(shutdown));
        eventually("the taint is removed", async || {
            (keys(&nodes, "tainted").await == rest).then_some(())
        })
        .await;
        assert_eq!(keys(&nodes, "another").await, [rest[0], KEY, rest[1]]);
    });
}
