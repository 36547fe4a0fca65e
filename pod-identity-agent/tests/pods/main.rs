//! Checks of the node's pods, and keys from the API server: with a real API server and a fake EKS Auth.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../it/agent.rs"]
mod agent;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent::{Behaviour, FakeEksAuth, LOOPBACK, check_error, config, credentials, fake_eks_auth, granted};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use pod_identity_agent::app::App;
use pod_identity_agent::config::{PodsConfig, TokenKeys};
use pod_identity_runtime::clock::monotonic;
use pod_identity_runtime::kubernetes::ApiServer;
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use serde_json::{Value, json};
use testing::cluster::{API_ADDRESS, Cluster, namespace, token};
use testing::wire::ask;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const AUDIENCE: &str = "pods.eks.amazonaws.com";

/// A node, its agent, and one namespace.
struct TestNode {
    client: Client,
    name: &'static str,
    agent: SocketAddr,
    admin: SocketAddr,
    _eks_auth: FakeEksAuth,
}

impl TestNode {
    async fn start(kubeconfig: PathBuf, admin: PathBuf, name: &'static str, bind_address: bool) -> Self {
        let client = testing::cluster::client(&admin).await;
        namespace(&client, name, &[]).await;
        let node: Node = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &node).await.unwrap();
        let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted(name, "default"))).await;
        let mut config = config(eks_auth.address, &[LOOPBACK]);
        config.keys = TokenKeys::Learned(Outbound::default());
        config.api_server = ApiServer { kubeconfig: Some(kubeconfig), url: None };
        config.pods = PodsConfig { watch: true, node: Some(name.parse().unwrap()), bind_address };
        let app = App::bind(config).await.unwrap();
        let (agent, admin) = (app.addresses()[0], app.admin_addresses()[0]);
        tokio::spawn(app.run(Shutdown::never()));
        let node = Self { client, name, agent, admin, _eks_auth: eks_auth };
        node.until("pod_identity_issuer_keys_source{source=\"api_server\"}", 1.0).await;
        node
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.name)
    }

    async fn pod_on(&self, node: &str, name: &str) -> Pod {
        let env = json!([{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"}]);
        let spec = json!({"nodeName": node, "containers": [{"name": "app", "image": "app", "env": env}]});
        let pod = json!({"metadata": {"name": name}, "spec": spec});
        self.pods().create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap()
    }

    async fn pod(&self, name: &str) -> Pod {
        self.pod_on(self.name, name).await
    }

    async fn token(&self, pod: &Pod) -> String {
        token(&self.client, self.name, "default", Some(pod), &[AUDIENCE], 3600).await
    }

    async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    async fn status(&self, token: &str) -> u16 {
        credentials(self.agent, token).await.status
    }

    /// Asserts that a token is refused with this code within 5 s.
    async fn refused_within_5_s(&self, token: &str, code: &str) {
        let start = monotonic();
        loop {
            let answer = credentials(self.agent, token).await;
            if answer.status == 403 {
                assert_eq!(check_error(&answer), code);
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{answer:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn get(&self, path: &str) -> String {
        ask(self.admin, &format!("GET {path}"), &[], b"").await.unwrap().text()
    }

    async fn metric(&self, series: &str) -> f64 {
        let metrics = self.get("/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    async fn until(&self, series: &str, least: f64) {
        let start: Instant = monotonic();
        while self.metric(series).await < least {
            assert!(start.elapsed() < Duration::from_secs(20), "{series}:\n{}", self.get("/metrics").await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Returns the token with another signature.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{first}{}", &signature[1..])
}

/// A connection to the API server that a test can cut.
async fn proxy(admin: &Path, directory: &Path) -> (PathBuf, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move {
                let mut server = TcpStream::connect((API_ADDRESS, 443)).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let mut kubeconfig: Value = serde_json::from_str(&std::fs::read_to_string(admin).unwrap()).unwrap();
    let cluster = &mut kubeconfig["clusters"][0]["cluster"];
    cluster["server"] = json!(format!("https://{address}"));
    cluster["tls-server-name"] = json!(API_ADDRESS.to_string());
    let path = directory.join("proxied.kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    (path, task)
}

#[test]
fn refuses_a_deleted_pod_within_5_s_also_with_a_new_token_and_after_its_name_is_used_again() {
    let Some(cluster) = Cluster::shared() else { return };
    let admin = cluster.kubeconfig();
    cluster.run(async move || {
        let node = TestNode::start(admin.clone(), admin, "deleted", false).await;
        let pod = node.pod("app").await;
        let (used, never_used) = (node.token(&pod).await, node.token(&pod).await);
        assert_eq!(node.status(&used).await, 200);
        let page: Value = serde_json::from_str(&node.get("/debug/pods").await).unwrap();
        assert_eq!(page["pods"][0]["name"], "app", "{page}");
        assert!(page["pods"][0]["lastRequest"].is_string(), "{page}");
        node.delete("app").await;
        node.refused_within_5_s(&never_used, "pod_deleted").await;
        node.refused_within_5_s(&used, "pod_deleted").await;
        let again = node.pod("app").await;
        assert_eq!(node.status(&node.token(&again).await).await, 200);
        assert_eq!(node.status(&used).await, 403);
        assert_eq!(node.status(&never_used).await, 403);
    });
}

#[test]
fn serves_and_counts_while_the_api_server_is_away_and_an_unverifiable_token_causes_no_read() {
    let Some(cluster) = Cluster::shared() else { return };
    let admin = cluster.kubeconfig();
    cluster.run(async move || {
        let directory = tempfile::tempdir().unwrap();
        let (proxied, connection) = proxy(&admin, directory.path()).await;
        let node = TestNode::start(proxied, admin, "away", false).await;
        let known = node.token(&node.pod("known").await).await;
        assert_eq!(node.status(&known).await, 200);
        let reads = async || {
            let mut all = vec![];
            for outcome in ["running", "deleted", "failed", "limited"] {
                all.push(
                    node.metric(&format!("pod_identity_pod_reads_total{{outcome=\"{outcome}\"}}")).await,
                );
            }
            all
        };
        let before = reads().await;
        assert_eq!(node.status(&forged(&known)).await, 400);
        assert_eq!(reads().await, before, "a token with a wrong signature");
        connection.abort();
        node.until("pod_identity_pod_watch_failing_seconds", f64::MIN_POSITIVE).await;
        // The watch does not know this pod.
        let unknown = node.token(&node.pod("unknown").await).await;
        assert_eq!(node.status(&unknown).await, 200);
        assert!(node.metric("pod_identity_pod_reads_total{outcome=\"failed\"}").await >= 1.0);
        let before = reads().await;
        assert_eq!(node.status(&forged(&unknown)).await, 400);
        assert_eq!(reads().await, before, "a token with a wrong signature");
        assert_eq!(node.status(&known).await, 200);
    });
}

#[test]
fn refuses_the_token_of_another_node() {
    let Some(cluster) = Cluster::shared() else { return };
    let admin = cluster.kubeconfig();
    cluster.run(async move || {
        let node = TestNode::start(admin.clone(), admin, "own-node", false).await;
        let other: Node = serde_json::from_value(json!({"metadata": {"name": "other-node"}})).unwrap();
        Api::all(node.client.clone()).create(&PostParams::default(), &other).await.unwrap();
        let elsewhere = node.token(&node.pod_on("other-node", "elsewhere").await).await;
        let answer = credentials(node.agent, &elsewhere).await;
        assert_eq!((answer.status, check_error(&answer).as_str()), (403, "node_mismatch"));
        assert_eq!(node.status(&node.token(&node.pod("here").await).await).await, 200);
    });
}

#[test]
fn bind_pod_ip_refuses_only_a_known_other_address() {
    let Some(cluster) = Cluster::shared() else { return };
    let admin = cluster.kubeconfig();
    cluster.run(async move || {
        let node = TestNode::start(admin.clone(), admin, "bound", true).await;
        for (name, ip, status) in [("same", "127.0.0.1", 200), ("other", "127.0.0.9", 403)] {
            let token = node.token(&node.pod(name).await).await;
            assert_eq!(node.status(&token).await, 200, "the addresses are unknown");
            let ip: IpAddr = ip.parse().unwrap();
            let patch = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
            node.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
            match status {
                200 => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    assert_eq!(node.status(&token).await, 200);
                }
                _ => node.refused_within_5_s(&token, "pod_address_mismatch").await,
            }
        }
    });
}
