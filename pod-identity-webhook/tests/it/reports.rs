//! Pods that run without what their accounts have, on a real API server: found, and said in their Events.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use pod_identity_runtime::admin::{Admin, Readiness};
use pod_identity_runtime::clock::monotonic;
use pod_identity_runtime::listener::Listener;
use pod_identity_runtime::shutdown::{Ender, Shutdown};
use pod_identity_webhook::args::parse;
use pod_identity_webhook::client::client;
use pod_identity_webhook::knowledge::Knowledge;
use pod_identity_webhook::reports::Reports;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use testing::cluster::{Cluster, apply, namespace, service_account};
use testing::eventually::eventually;
use testing::wire::ask;

use crate::metrics::{listed, said};
use crate::webhook::{Webhook, pod};

const ROLE: &str = "eks.amazonaws.com/role-arn";
const ARN: &str = "arn:aws:iam::111122223333:role/cart";

/// A replica, as far as its reports go, with the rights of the manifests.
struct Replica {
    admin: std::net::SocketAddr,
    shutdown: Ender,
}

impl Replica {
    async fn start(cluster: &Cluster) -> Self {
        let kubeconfig = cluster.kubeconfig_of("pod-identity", "pod-identity-webhook").await;
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let flags = ["webhook", &kubeconfig, "--namespace=pod-identity", "--reconcile-interval=3600"];
        let config = parse(flags).unwrap().config().unwrap();
        let client = client(&config.api_server).await.unwrap();
        let (readiness, mut registry) = (Readiness::default(), Registry::default());
        let knowledge = Knowledge::open(&config, Some(&client), &readiness, &mut registry).unwrap();
        let mut without = String::new();
        prometheus_client::encoding::text::encode(&mut without, &registry).unwrap();
        let reports = Reports::new(&config, &client, &knowledge, &mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let of_reports: BTreeSet<_> = said(&text).difference(&said(&without)).cloned().collect();
        assert_eq!(of_reports, listed("The webhook's reports"));
        let page = reports.with_page(Admin::new(readiness.clone(), registry));
        let (shutdown, ending) = Shutdown::manual();
        tokio::spawn(knowledge.follow(readiness, ending.clone()));
        tokio::spawn(reports.follow(ending.clone(), ending.clone()));
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let admin = listener.address().unwrap();
        tokio::spawn(listener.serve(std::sync::Arc::new(page), ending));
        Self { admin, shutdown }
    }

    /// The reason of each pod in the list; `None` where this replica has none.
    async fn found(&self) -> Option<BTreeMap<String, String>> {
        let answer = ask(self.admin, "GET /uninjected-pods", &[], b"").await.unwrap();
        if answer.status == 503 {
            assert_eq!(answer.json()["code"], "not_read");
            return None;
        }
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let page = answer.json();
        // The list is the cluster's: other tests leave pods without, too.
        let ours = page["pods"].as_array().unwrap().iter().filter(|pod| pod["namespace"] == "reported");
        Some(ours.map(|pod| (text(&pod["pod"]), text(&pod["reason"]))).collect())
    }

    async fn finds(&self, what: &str, expected: &[(&str, &str)]) {
        let expected: BTreeMap<_, _> =
            expected.iter().map(|&(pod, reason)| (pod.to_owned(), reason.to_owned())).collect();
        eventually(what, async || (self.found().await.as_ref() == Some(&expected)).then_some(())).await;
    }
}

async fn create(
    client: &Client,
    namespace: &str,
    name: &str,
    account: &str,
    change: impl FnOnce(&mut Value),
) {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"serviceAccountName": account, "containers": [{"name": "app", "image": "app:1"}]},
    });
    change(&mut pod);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
}

async fn annotate(client: &Client, namespace: &str, account: &str, role: Option<&str>) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": {ROLE: role}}});
    accounts.patch(account, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[test]
fn a_pod_whose_account_gets_a_role_later_is_found_within_seconds_and_said_in_its_events() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        testing::logs::capture();
        let client = cluster.client().await;
        namespace(&client, "reported", &[]).await;
        for name in ["cart", "pay", "none"] {
            service_account(&client, "reported", name, &[]).await;
        }
        for manifests in ["namespace", "rbac", "reports"] {
            let path = format!("{}/../deploy/webhook/{manifests}.yaml", env!("CARGO_MANIFEST_DIR"));
            apply(&client, &std::fs::read_to_string(path).unwrap()).await;
        }
        // No webhook is registered for these: they are what its absence leaves behind.
        create(&client, "reported", "cart-1", "cart", |_| {}).await;
        create(&client, "reported", "none-1", "none", |_| {}).await;
        create(&client, "reported", "own-1", "pay", |pod| {
            pod["spec"]["containers"][0]["env"] = json!([{"name": "AWS_ROLE_ARN", "value": "mine"}]);
        })
        .await;
        create(&client, "reported", "skipped-1", "cart", |pod| {
            pod["metadata"]["labels"] = json!({"eks.amazonaws.com/skip-pod-identity-webhook": "true"});
        })
        .await;
        let replica = Replica::start(cluster).await;
        replica.finds("all pods are read", &[]).await;

        let changed = monotonic();
        annotate(&client, "reported", "cart", Some(ARN)).await;
        replica.finds("the pod is found", &[("cart-1", "not_injected")]).await;
        println!("the pod was found {:?} after the change", changed.elapsed());
        annotate(&client, "reported", "pay", Some(ARN)).await;
        let both = [("cart-1", "not_injected"), ("own-1", "not_injected")];
        replica.finds("the other one too", &both).await;

        let events: Api<Event> = Api::namespaced(client.clone(), "reported");
        let of = async |pod: &str| {
            let all = events.list(&ListParams::default()).await.unwrap();
            let regarding = |event: &Event| event.regarding.as_ref().and_then(|object| object.name.clone());
            all.into_iter().find(|event| regarding(event).as_deref() == Some(pod))
        };
        let event = eventually("the Event is written", async || of("cart-1").await).await;
        assert_eq!(event.reason.as_deref(), Some("PodIdentityLacking"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert!(event.note.unwrap().contains("Delete the pod"));
        assert!(of("none-1").await.is_none() && of("skipped-1").await.is_none());

        // Another replica does not look while this one does, and takes over when it ends.
        let other = Replica::start(cluster).await;
        assert_eq!(other.found().await, None);
        replica.shutdown.end();
        other.finds("the other replica looks", &both).await;

        annotate(&client, "reported", "pay", None).await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "reported");
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        pods.delete("cart-1", &now).await.unwrap();
        annotate(&client, "reported", "cart", Some("arn:aws:iam::111122223333:role/other")).await;
        other.finds("what is mended is no longer there", &[]).await;
    });
}

#[test]
fn a_review_that_anybody_can_send_writes_nothing_to_the_kubernetes_api() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let client = cluster.client().await;
        for name in ["forged", "shop"] {
            namespace(&client, name, &[]).await;
        }
        service_account(&client, "forged", "cart", &[]).await;
        create(&client, "forged", "real-1", "cart", |_| {}).await;
        let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig().display());
        let own = [
            "--service-account-read=fresh",
            "--kube-api=",
            "--namespace=forged",
            "--reconcile-interval=3600",
        ];
        let webhook = Webhook::start(&[&own[..], &[&kubeconfig]].concat()).await;
        eventually("it is ready", async || (webhook.admin("/readyz").await.status == 200).then_some(()))
            .await;

        // No such pod exists. The service account has a role, and the pod would go without it.
        let mut forged = pod("cart");
        forged["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "victim", "uid": "1", "controller": true,
        }]);
        forged["spec"]["containers"][0]["env"] =
            json!([{"name": "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "value": "/x"}]);
        for _ in 0..3 {
            let decision = webhook.review("/mutate", &forged).await;
            assert!(decision.allowed && decision.paths.is_empty() && !decision.warnings.is_empty());
        }
        // Events are written in order: one of the reconciler's, about a pod that runs, comes after any about those.
        annotate(&client, "forged", "cart", Some(ARN)).await;
        let events: Api<Event> = Api::all(client.clone());
        let regarding = async || {
            let all = events.list(&ListParams::default()).await.unwrap();
            let names = all.into_iter().filter_map(|event| event.regarding?.name);
            names.collect::<Vec<_>>()
        };
        eventually("the reconciler writes", async || {
            regarding().await.contains(&"real-1".to_owned()).then_some(())
        })
        .await;
        let forged: Vec<_> = regarding().await.into_iter().filter(|name| name == "victim").collect();
        assert_eq!(forged, [""; 0]);
    });
}
