//! `report` on a real API server, with the rights of `deploy/webhook/reports.yaml`.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use pod_identity_runtime::clock::monotonic;
use serde_json::{Value, json};
use testing::cluster::{Cluster, apply_object, documents, namespace, service_account};
use testing::eventually::eventually;
use testing::wire::ask;
use tokio::process::Command;

use super::{Running, assert_page_lists, finds};
use crate::webhook::{Webhook, pod};

const ROLE: &str = "eks.amazonaws.com/role-arn";
const ARN: &str = "arn:aws:iam::111122223333:role/cart";
const INTERVAL: Duration = Duration::from_millis(200);

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

async fn delete(client: &Client, namespace: &str, pod: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete(pod, &now).await.unwrap();
}

/// Events of a namespace about a pod, from one instance of the report: those of other tests read all pods, too.
async fn events(client: &Client, namespace: &str, pod: &str, instance: &str) -> Vec<Event> {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let all = events.list(&ListParams::default()).await.unwrap();
    let regarding = |event: &Event| event.regarding.as_ref().and_then(|object| object.name.clone());
    let of_pod = all.into_iter().filter(|event| regarding(event).as_deref() == Some(pod));
    of_pod.filter(|event| event.reporting_instance.as_deref() == Some(instance)).collect()
}

/// Applies the manifests. Returns the kubeconfig flag of the report's service account, and the Deployment.
async fn install(cluster: &Cluster, client: &Client) -> (String, Value) {
    let mut deployment = Value::Null;
    for manifests in ["namespace", "reports"] {
        let path = format!("{}/../deploy/webhook/{manifests}.yaml", env!("CARGO_MANIFEST_DIR"));
        for object in documents(&std::fs::read_to_string(path).unwrap()) {
            apply_object(client, &object).await;
            if object["kind"] == "Deployment" {
                deployment = object;
            }
        }
    }
    let kubeconfig = cluster.kubeconfig_of("pod-identity", "pod-identity-webhook-report").await;
    (format!("--kubeconfig={}", kubeconfig.display()), deployment)
}

#[test]
fn a_pod_whose_account_gets_a_role_later_is_found_within_seconds_and_said_in_its_events() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let client = cluster.client().await;
        namespace(&client, "reported", &[]).await;
        for name in ["cart", "pay", "none"] {
            service_account(&client, "reported", name, &[]).await;
        }
        let (kubeconfig, _) = install(cluster, &client).await;
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
        // More pods than one page has.
        for number in 0..100 {
            create(&client, "reported", &format!("other-{number}"), "none", |_| {}).await;
        }
        let files = tempfile::tempdir().unwrap();
        let identities = files.path().join("identities.json");
        let write = |content: &str| std::fs::write(&identities, content).unwrap();
        write(r#"{"identities": []}"#);
        let file = format!("--watch-container-credentials-config={}", identities.display());
        let flags =
            [&*kubeconfig, &file, "--namespace=pod-identity", "--watch-config-map", "--pod-name=here"];
        let report = Running::start(INTERVAL, &flags).await;
        finds(report.admin, "reported", "all pods are read", &[]).await;
        assert_eq!(report.get("/readyz").await.status, 200);
        assert_page_lists(&report.get("/metrics").await.text());

        let changed = monotonic();
        annotate(&client, "reported", "cart", Some(ARN)).await;
        finds(report.admin, "reported", "the pod is found", &[("cart-1", "not_injected")]).await;
        println!("the pod was found {:?} after the change", changed.elapsed());
        annotate(&client, "reported", "pay", Some(ARN)).await;
        let both = [("cart-1", "not_injected"), ("own-1", "not_injected")];
        finds(report.admin, "reported", "the other one too", &both).await;

        let event = eventually("the Event is written", async || {
            events(&client, "reported", "cart-1", "here").await.pop()
        })
        .await;
        assert_eq!(event.reason.as_deref(), Some("PodIdentityLacking"));
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert!(event.note.unwrap().contains("Delete the pod"));
        for pod in ["none-1", "skipped-1"] {
            assert!(events(&client, "reported", pod, "here").await.is_empty(), "{pod}");
        }

        // While a source of role assignments cannot be read, findings stay.
        write("broken");
        eventually("pods are undetermined", async || {
            (report.metric("pod_identity_webhook_undetermined_pods").await > Some(0.0)).then_some(())
        })
        .await;
        finds(report.admin, "reported", "findings stay", &both).await;
        write(r#"{"identities": []}"#);
        eventually("every pod is determined", async || {
            (report.metric("pod_identity_webhook_undetermined_pods").await == Some(0.0)).then_some(())
        })
        .await;

        // Many readings later there is one Event, written once.
        let reading = "pod_identity_webhook_readings_total{result=\"ok\"}";
        let readings = report.metric(reading).await.unwrap();
        eventually("five more readings", async || {
            (report.metric(reading).await.unwrap() >= readings + 5.0).then_some(())
        })
        .await;
        let event = events(&client, "reported", "cart-1", "here").await;
        assert!(event.len() == 1 && event[0].series.is_none(), "{event:?}");

        annotate(&client, "reported", "pay", None).await;
        delete(&client, "reported", "cart-1").await;
        annotate(&client, "reported", "cart", Some("arn:aws:iam::111122223333:role/other")).await;
        finds(report.admin, "reported", "what is mended is no longer there", &[]).await;
        report.end().await;
    });
}

#[test]
fn the_program_reports_as_its_deployment_runs_it_and_ends_two_seconds_after_the_signal() {
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async || {
        let client = cluster.client().await;
        namespace(&client, "reported-by-program", &[]).await;
        service_account(&client, "reported-by-program", "cart", &[(ROLE, ARN)]).await;
        create(&client, "reported-by-program", "cart-1", "cart", |_| {}).await;
        let (kubeconfig, deployment) = install(cluster, &client).await;
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap().iter();
        let arguments =
            arguments.map(|argument| argument.as_str().unwrap().replace("$(POD_NAMESPACE)", "pod-identity"));
        let mut program = Command::new(env!("CARGO_BIN_EXE_pod-identity-webhook"))
            .args(arguments)
            .args([&*kubeconfig, "--metrics-port=29999"])
            .env_clear()
            .env("POD_NAME", "report-1")
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let admin = (Ipv4Addr::LOCALHOST, 29_999).into();
        let expected = [("cart-1", "not_injected")];
        finds(admin, "reported-by-program", "the pod is found", &expected).await;
        let event = eventually("the Event is written", async || {
            events(&client, "reported-by-program", "cart-1", "report-1").await.pop()
        })
        .await;
        assert_eq!(event.reporting_controller.as_deref(), Some("pod-identity-webhook"));
        assert_eq!(ask(admin, "GET /readyz", &[], b"").await.unwrap().status, 200);
        assert_page_lists(&ask(admin, "GET /metrics", &[], b"").await.unwrap().text());

        let asked = monotonic();
        let id = program.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        let status = tokio::time::timeout(Duration::from_secs(10), program.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(2), "after {:?}", asked.elapsed());
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
        let own = ["--service-account-read=fresh", "--kube-api=", "--namespace=forged", &kubeconfig];
        let webhook = Webhook::start(&own).await;
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
        // An Event that the report writes later, about a pod that runs, shows that Events arrive.
        annotate(&client, "forged", "cart", Some(ARN)).await;
        let report = Running::start(INTERVAL, &[&kubeconfig, "--namespace=forged"]).await;
        let all: Api<Event> = Api::all(client.clone());
        let regarding = async || {
            let all = all.list(&ListParams::default()).await.unwrap();
            let names = all.into_iter().filter_map(|event| event.regarding?.name);
            names.collect::<Vec<_>>()
        };
        eventually("the report writes", async || {
            regarding().await.contains(&"real-1".to_owned()).then_some(())
        })
        .await;
        let forged: Vec<_> = regarding().await.into_iter().filter(|name| name == "victim").collect();
        assert_eq!(forged, [""; 0]);
        report.end().await;
    });
}
