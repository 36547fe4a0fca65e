//! Decisions about single reviews: pods that need no lookup, and the metrics, warnings and log lines of the others.

use pod_identity_core::inject::NamespaceSettings;
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock;
use pod_identity_webhook::admission::Admission;
use pod_identity_webhook::args::parse;
use pod_identity_webhook::client;
use pod_identity_webhook::lookup::Lookup;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use crate::webhook::{Webhook, pod, review};

/// An [`Admission`] whose API server refuses connections.
struct Fixture {
    admission: Admission,
    registry: Registry,
}

impl Fixture {
    async fn new() -> Self {
        testing::logs::capture();
        let flags = ["webhook", "--kube-api=http://127.0.0.1:9", "--in-cluster=false"];
        let config = parse(flags).unwrap().config().unwrap();
        let client = client::client(&config.api_server).await.unwrap();
        let mut registry = Registry::default();
        let lookup = Lookup::open(&config, Some(&client), &Readiness::default(), &mut registry).unwrap();
        let admission = Admission::new(lookup, config.settings, &mut registry);
        Self { admission, registry }
    }

    /// Returns the response to a review.
    async fn respond(&self, body: &[u8]) -> Value {
        let response = self
            .admission
            .respond(body, NamespaceSettings::default(), None, clock::monotonic())
            .await
            .unwrap();
        serde_json::from_slice::<Value>(&response).unwrap()["response"].clone()
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
    }
}

const UNKNOWN: &str = r#"pod_identity_webhook_missed_total{reason="service_account_unknown"}"#;

/// Reads that failed because the API server refused the connection.
const READ_FAILED: &str = r#"pod_identity_api_reads_total{object="service_account",result="connection"}"#;

#[tokio::test]
async fn admits_a_pod_of_an_unreadable_service_account_with_a_warning() {
    let fixture = Fixture::new().await;
    let response = fixture.respond(&review(&pod("stranger"))).await;
    assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("nobody knows") && warning.contains("API server"), "{warning}");
    assert_eq!(fixture.metric(UNKNOWN), Some(1.0));
    let line = testing::logs::lines_with(&["WARN", "admitted by earlier data", "no_role"]).pop();
    assert!(line.is_some());
}

#[tokio::test]
async fn responds_to_reviews_of_maximum_size() {
    let fixture = Fixture::new().await;
    // A pod whose list of containers or volumes fills 8 MiB cannot be read.
    let empty = format!("[{}{{}}]", "{},".repeat((8 * 1024 * 1024 - 1024) / 3));
    let with_empty =
        |member: &str| format!(r#"{{"metadata": {{}}, "spec": {{"containers": [], "{member}": {empty}}}}}"#);
    let unreadable = r#"pod_identity_webhook_missed_total{reason="unreadable"}"#;
    for (object, expected) in [
        (format!(r#"{{"metadata": {{}}, "spec": {{"containers": {empty}}}}}"#), "more than 500 containers"),
        (with_empty("volumes"), "more than 1000 volumes"),
        (with_empty("initContainers"), "more than 500 containers"),
    ] {
        let before = fixture.metric(unreadable).unwrap();
        let body = String::from_utf8(review(&json!("POD"))).unwrap().replace(r#""POD""#, &object);
        let response = fixture.respond(body.as_bytes()).await;
        assert_eq!(response["allowed"], true);
        assert!(response["warnings"][0].as_str().unwrap().contains(expected), "{response}");
        assert_eq!(fixture.metric(unreadable), Some(before + 1.0));
    }
    // A pod with the maximum number of containers and volumes is injected, and its warnings stay short.
    let own = json!([{"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN", "value": "x"}]);
    let containers: Vec<_> = (0..500).map(|number| json!({"name": format!("app-{number}")})).collect();
    let init_containers: Vec<_> =
        (0..500).map(|number| json!({"name": format!("init-{number}"), "env": own})).collect();
    let volumes: Vec<_> = (0..1_000).map(|number| json!({"name": format!("volume-{number}")})).collect();
    let pod = pod_with(|pod| {
        pod["metadata"]["labels"]["podidentity.dev/inject"] = json!("enabled");
        pod["metadata"]["generateName"] = json!("stranger-of-a-thousand-");
        pod["spec"] =
            json!({"containers": containers, "initContainers": init_containers, "volumes": volumes});
    });
    let response = fixture.respond(&review(&pod)).await;
    let patched = patched(&pod, &response);
    let containers = patched["spec"]["containers"].as_array().unwrap();
    assert!(containers.iter().all(|container| container["env"].as_array().unwrap().len() == 2));
    assert_eq!(patched["spec"]["initContainers"], json!(init_containers));
    let warnings = response["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 16);
    assert_eq!(warnings[15], "pod-identity: and 485 more warnings");
    let line =
        testing::logs::lines_with(&["WARN", "stranger-of-a-thousand-", "own_variables"]).pop().unwrap();
    assert!(line.contains("and 490 more") && line.len() < 4096, "{line}");
}

#[tokio::test]
async fn truncates_long_names_and_kinds_in_warnings_errors_and_logs() {
    let fixture = Fixture::new().await;
    let long = "x".repeat(1024 * 1024);
    let response =
        fixture.respond(&review(&pod_with(|pod| pod["spec"]["serviceAccountName"] = json!(long)))).await;
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("cannot be read") && warning.len() <= 256, "{warning}");
    let body = json!({"apiVersion": long, "kind": long}).to_string();
    let answer =
        fixture.admission.respond(body.as_bytes(), NamespaceSettings::default(), None, clock::monotonic());
    let error = answer.await.unwrap_err().to_string();
    assert!(error.contains("xxx") && error.len() < 1024, "{error}");
    for line in testing::logs::lines_with(&["WARN", "xxxxxxxx"]) {
        assert!(line.len() < 4096, "{line}");
    }
}

#[tokio::test]
async fn counts_and_logs_pods_admitted_by_earlier_data() {
    let webhook = Webhook::start(&["--service-account-read=never"]).await;
    std::fs::write(webhook.pod_identity_file(), "").unwrap(); // its last usable content stays in use
    let not_fresh = async |outcome: &str| {
        webhook.metric(&format!("pod_identity_webhook_not_fresh_total{{outcome=\"{outcome}\"}}")).await
    };
    let missed = async || webhook.metric(r#"pod_identity_webhook_missed_total{reason="not_fresh"}"#).await;
    let named = |name: &str, service_account: &str| {
        let mut pod = pod(service_account);
        pod["metadata"]["generateName"] = json!(name);
        pod
    };
    assert_eq!((not_fresh("injected").await, missed().await), (Some(0.0), Some(0.0)));
    let injected = webhook.review("/mutate", &named("cart-earlier-", "cart")).await;
    assert!(injected.allowed && !injected.paths.is_empty() && injected.warnings.is_empty(), "{injected:?}");
    assert_eq!((not_fresh("injected").await, missed().await), (Some(1.0), Some(0.0)));
    assert!(!testing::logs::lines_with(&["WARN", "cart-earlier-", "admitted by earlier data"]).is_empty());

    let without = webhook.review("/mutate", &named("pay-earlier-", "pay")).await;
    assert!(without.allowed && without.paths.is_empty(), "{without:?}");
    assert_eq!(without.warnings.len(), 1, "{without:?}");
    assert!(without.warnings[0].contains("known before") && without.warnings[0].contains("identities.json"));
    assert_eq!((not_fresh("no_role").await, missed().await), (Some(1.0), Some(1.0)));
    assert!(!testing::logs::lines_with(&["WARN", "pay-earlier-", "admitted by earlier data"]).is_empty());
}

#[tokio::test]
async fn reads_no_service_account_that_cannot_change_the_decision() {
    let fixture = Fixture::new().await;
    let label = |key: &'static str, value: &'static str| {
        move |pod: &mut Value| pod["metadata"]["labels"][key] = json!(value)
    };
    let always = pod_with(label("podidentity.dev/inject", "enabled"));
    let injected = {
        let pod = always.clone();
        let response = fixture.respond(&review(&pod)).await;
        assert_eq!(response["patchType"], "JSONPatch");
        patched(&pod, &response)
    };
    for (name, pod, outcome) in [
        ("skipped", pod_with(label("eks.amazonaws.com/skip-pod-identity-webhook", "")), "skip_label"),
        (
            "containers skipped",
            pod_with(|pod| {
                pod["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"] = json!("app, side");
            }),
            "skip_containers",
        ),
        (
            "static",
            pod_with(|pod| pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("x")),
            "mirror_pod",
        ),
        ("injected", injected, "already_injected"),
        ("always", always, "injected"),
    ] {
        let counter = format!("pod_identity_webhook_reviews_total{{outcome=\"{outcome}\"}}");
        let before = fixture.metric(&counter).unwrap();
        assert_eq!(fixture.respond(&review(&pod)).await["allowed"], true, "{name}");
        assert_eq!(fixture.metric(&counter), Some(before + 1.0), "{name}");
    }
    // Each read would have failed and counted as unknown.
    assert_eq!(fixture.metric(UNKNOWN), Some(0.0));
    // An incomplete configuration does not count, and the service account decides whether a role goes through the agent.
    for pod in [
        pod_with(|pod| {
            pod["metadata"]["annotations"]["podidentity.dev/role-arn.app"] =
                json!("arn:aws:iam::111122223333:role/app");
            pod["metadata"]["labels"]["podidentity.dev/inject"] = json!("enabled");
        }),
        pod_with(|pod| pod["spec"]["containers"][0]["env"] = json!([{"name": "AWS_ROLE_ARN", "value": "x"}])),
    ] {
        let before = fixture.metric(READ_FAILED);
        fixture.respond(&review(&pod)).await;
        assert_ne!(fixture.metric(READ_FAILED), before, "{pod}");
    }
}

/// Returns a changed pod of two containers.
fn pod_with(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod("stranger");
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    containers.push(json!({"name": "side"}));
    change(&mut pod);
    pod
}

/// Returns the pod with the response's patch.
fn patched(pod: &Value, response: &Value) -> Value {
    use base64::Engine as _;
    let patch = base64::prelude::BASE64_STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[tokio::test]
async fn is_not_ready_and_refuses_only_required_pods_before_the_first_list() {
    let webhook = Webhook::start(&["--service-account-read=fresh"]).await;
    let started = clock::monotonic();
    assert!(webhook.review("/mutate", &pod("pay")).await.allowed);
    let refused = webhook.review("/mutate/require", &pod("pay")).await;
    assert!(!refused.allowed);
    assert!(refused.message.contains("API server"), "{}", refused.message);
    // A file gives this service account Pod Identity.
    assert!(webhook.review("/mutate/require", &pod("cart")).await.allowed);
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(webhook.admin("/readyz").await.status, 503);
    assert_eq!(webhook.metric(UNKNOWN).await, Some(1.0));
    let refused = r#"pod_identity_webhook_refused_total{reason="not_fresh"}"#;
    assert_eq!(webhook.metric(refused).await, Some(1.0));
}

#[tokio::test]
async fn logs_name_pods_and_reasons_without_values_of_variables() {
    let webhook = Webhook::start(&[]).await;
    let mut pod = pod("cart");
    pod["metadata"]["name"] = json!("cart-of-the-log");
    pod["spec"]["containers"][0]["env"] = json!([{"name": "PASSWORD", "value": "hunter2-of-the-log"}]);
    assert!(webhook.review("/mutate", &pod).await.allowed);
    pod["spec"]["containers"][0]["env"] =
        json!([{"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN", "value": "hunter2-of-the-log"}]);
    pod["metadata"]["name"] = json!("bad-of-the-log\nforged line");
    assert!(webhook.review("/mutate", &pod).await.allowed);
    let line = |texts: &[&str]| testing::logs::lines_with(texts).pop().unwrap_or_else(|| panic!("{texts:?}"));
    let injected: Value = serde_json::from_str(&line(&["cart-of-the-log", "DEBUG"])).unwrap();
    assert_eq!((&injected["message"], &injected["namespace"]), (&json!("pod injected"), &json!("shop")));
    assert_eq!(injected["service_account"], "cart");
    let missed = line(&["bad-of-the-log", "WARN", "own_variables", "AWS_CONTAINER_AUTHORIZATION_TOKEN"]);
    assert_eq!(missed.trim_end().lines().count(), 1, "{missed}");
    assert!(testing::logs::lines_with(&["hunter2-of-the-log"]).is_empty());
}
