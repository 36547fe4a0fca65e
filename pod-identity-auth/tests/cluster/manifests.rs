//! The manifests of `deploy`, built with kustomize and applied to a real API server.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use testing::cluster::{Cluster, apply_object, namespace, service_account};
use testing::kustomize;

fn build(name: &str) -> Option<Vec<Value>> {
    kustomize::build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name))
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Returns the arguments of a container with the variables that kubelet sets.
fn arguments(workload: &Value, settings: &Value) -> Vec<String> {
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    let expand = |argument: &Value| {
        let mut text = argument.as_str().unwrap().replace("$(POD_NAMESPACE)", "pod-identity");
        text = text.replace("$(NODE_NAME)", "node");
        for (key, value) in settings["data"].as_object().unwrap() {
            text = text.replace(&format!("$({key})"), value.as_str().unwrap());
        }
        assert!(!text.contains("$("), "{text}");
        text
    };
    let program = container["command"][0].as_str().unwrap().to_owned();
    let arguments = container["args"].as_array().unwrap().iter().map(expand);
    std::iter::once(program).chain(arguments).collect()
}

/// Creates a pod of a workload without storing it.
async fn admit(client: &Client, namespace: &str, workload: &Value) -> Result<Pod, kube::Error> {
    let template = &workload["spec"]["template"];
    let mut pod = json!({"metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = json!("admitted");
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    pods.create(&dry, &serde_json::from_value(pod).unwrap()).await
}

#[test]
fn api_server_takes_every_variant_and_its_pods_meet_their_pod_security_level() {
    let Some(objects) = build("self-managed") else { return };
    let Some(cluster) = Cluster::shared() else { return };
    cluster.run(async move || {
        let client = cluster.client().await;
        for object in &objects {
            apply_object(&client, object).await;
        }
        // In a cluster, a controller creates this service account.
        service_account(&client, "pod-identity", "default", &[]).await;
        for variant in ["agent/eks", "agent/hybrid", "policies", "webhook"] {
            for object in build(variant).unwrap() {
                apply_object(&client, &object).await;
            }
        }
        let agent = find(&objects, "DaemonSet", "pod-identity-agent");
        let auth = find(&objects, "Deployment", "pod-identity-auth");
        let webhook = find(&objects, "Deployment", "pod-identity-webhook");
        let restricted = [("pod-security.kubernetes.io/enforce", "restricted")];
        namespace(&client, "restricted-of-auth", &restricted).await;
        for workload in [auth, webhook] {
            let name = workload["metadata"]["name"].as_str().unwrap();
            service_account(&client, "restricted-of-auth", name, &[]).await;
            let pod = admit(&client, "restricted-of-auth", workload).await;
            pod.unwrap_or_else(|error| panic!("{name}: {error}"));
            admit(&client, "pod-identity", workload).await.unwrap();
        }
        service_account(&client, "restricted-of-auth", "pod-identity-agent", &[]).await;
        let error = admit(&client, "restricted-of-auth", agent).await.unwrap_err().to_string();
        assert!(error.contains("host namespaces"), "{error}");
        let pod = admit(&client, "pod-identity", agent).await.unwrap();
        let spec = pod.spec.unwrap();
        assert!(spec.containers.iter().all(|container| container.ports.is_none()), "a host port");
    });
}

#[test]
fn kustomization_of_the_page_sets_cluster_associations_and_images() {
    let page = include_str!("../../../docs/how-to/install-on-a-cluster-of-your-own.md");
    let (_, block) = page.split_once("```yaml\n# kustomization.yaml\n").unwrap();
    let kustomization = block.split("```").next().unwrap().replace("../pod-identity/deploy", "../../deploy");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let directory = tempfile::tempdir_in(root).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("kustomization.yaml", &kustomization);
    write("settings.env", "CLUSTER_NAME=prod\n");
    write("associations.yaml", "associations: []\n");
    let Some(objects) = kustomize::build(directory.path()) else { return };
    let agent = find(&objects, "DaemonSet", "pod-identity-agent").to_string();
    assert!(agent.contains("\"registry.example.com/pod-identity-agent:0.1.0\""), "{agent}");
    let associations = &find(&objects, "ConfigMap", "pod-identity-associations")["data"]["associations.yaml"];
    assert_eq!(associations, "associations: []\n");
    let settings = objects.iter().find(|one| one["data"]["CLUSTER_NAME"] == "prod").unwrap();
    assert!(settings["data"]["ISSUER"].is_string(), "the other settings stay");
}

/// Builds a kustomization of a user with these components.
fn build_with(variant: &str, components: &[&str]) -> Option<Vec<Value>> {
    // kustomize takes relative paths only.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let directory = tempfile::tempdir_in(root).unwrap();
    let components =
        components.iter().map(|component| format!("../../deploy/{component}")).collect::<Vec<_>>();
    let kustomization = json!({"resources": [format!("../../deploy/{variant}")], "components": components});
    std::fs::write(directory.path().join("kustomization.yaml"), kustomization.to_string()).unwrap();
    kustomize::build(directory.path())
}

#[test]
fn components_change_the_agent_of_every_variant() {
    let has = |objects: &[Value], kind: &str, name: &str| {
        objects.iter().any(|one| one["kind"] == kind && one["metadata"]["name"] == name)
    };
    for (variant, name) in [
        ("self-managed", "pod-identity-agent"),
        ("agent/eks", "pod-identity-agent-eks"),
        ("agent/hybrid", "pod-identity-agent-hybrid"),
    ] {
        let Some(plain) = build_with(variant, &[]) else { return };
        let args = |objects: &[Value]| {
            find(objects, "DaemonSet", name)["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
        };
        assert!(
            args(&plain).contains("\"--watch-pods\"") && has(&plain, "ClusterRole", "pod-identity-agent")
        );
        let without = build_with(variant, &["agent/without-pod-watch"]).unwrap();
        assert!(!args(&without).contains("--watch-pods"), "{variant}");
        assert!(!has(&without, "ClusterRole", "pod-identity-agent"), "{variant}");
        assert!(!has(&without, "ClusterRoleBinding", "pod-identity-agent"), "{variant}");
        let taint = build_with(variant, &["agent/startup-taint"]).unwrap();
        assert!(args(&taint).contains("--remove-startup-taint=podidentity.dev/agent-not-ready"), "{variant}");
        assert!(has(&taint, "ValidatingAdmissionPolicy", "startup-taint.podidentity.dev"), "{variant}");
        // The policy names the service account of the agent.
        let account = &find(&taint, "DaemonSet", name)["spec"]["template"]["spec"]["serviceAccountName"];
        assert_eq!(account, "pod-identity-agent", "{variant}");
    }
}

#[test]
fn names_that_belong_together_agree() {
    let Some(objects) = build("self-managed") else { return };
    let settings = objects
        .iter()
        .find(|one| {
            let name = one["metadata"]["name"].as_str().unwrap();
            one["kind"] == "ConfigMap" && name.starts_with("pod-identity-settings-")
        })
        .unwrap();
    let name = settings["metadata"]["name"].as_str().unwrap();
    for (kind, workload) in [
        ("DaemonSet", "pod-identity-agent"),
        ("Deployment", "pod-identity-auth"),
        ("Deployment", "pod-identity-webhook"),
    ] {
        let text = find(&objects, kind, workload).to_string();
        assert!(
            text.contains(&format!("\"name\":\"{name}\"")),
            "{workload} restarts after a change of settings"
        );
        assert!(!text.contains("\"pod-identity-settings\""), "{workload}");
    }

    // The auth service accepts its arguments, and allows the agent's service account.
    use clap::Parser;
    let auth = find(&objects, "Deployment", "pod-identity-auth");
    let flags = arguments(auth, settings);
    pod_identity_auth::args::Args::try_parse_from(&flags).unwrap().config().unwrap();
    assert!(flags.contains(&"--agent-service-account=pod-identity/pod-identity-agent".to_owned()));
    let agent = find(&objects, "DaemonSet", "pod-identity-agent");
    assert_eq!(agent["spec"]["template"]["spec"]["serviceAccountName"], "pod-identity-agent");

    // The agent calls the Service by the name in the certificate, and mounts the ConfigMap of its authorities.
    let flags = arguments(agent, settings);
    assert!(flags.contains(&"--endpoint=https://pod-identity-auth.pod-identity.svc".to_owned()), "{flags:?}");
    assert_eq!(find(&objects, "Service", "pod-identity-auth")["spec"]["ports"][0]["port"], 443);
    let volumes = agent["spec"]["template"]["spec"]["volumes"].to_string();
    assert!(volumes.contains("\"name\":\"pod-identity-auth-ca\",\"optional\":true"), "{volumes}");

    // Auth service and webhook read the same associations, of this cluster.
    let associations = find(&objects, "ConfigMap", "pod-identity-associations");
    let file = associations["data"]["associations.yaml"].as_str().unwrap();
    let entries = &testing::cluster::documents(file)[0]["associations"];
    assert_eq!(entries[0]["clusterName"], settings["data"]["CLUSTER_NAME"]);
    for workload in ["pod-identity-auth", "pod-identity-webhook"] {
        let workload = find(&objects, "Deployment", workload);
        let flags = arguments(workload, settings);
        assert!(
            flags.contains(&"--associations=/etc/pod-identity/associations.yaml".to_owned()),
            "{flags:?}"
        );
        assert!(flags.contains(&"--cluster-name=demo".to_owned()), "{flags:?}");
        assert!(workload.to_string().contains("\"configMap\":{\"name\":\"pod-identity-associations\"}"));
    }
}

#[test]
fn both_copies_of_the_namespace_are_the_same() {
    let read = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path);
        std::fs::read_to_string(path).unwrap()
    };
    assert_eq!(read("namespace/namespace.yaml"), read("webhook/namespace.yaml"));
}
