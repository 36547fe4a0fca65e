//! The manifests of `deploy/webhook`, applied as they are but for names: many installations on one API
//! server, each for the namespaces that are its own.

use std::path::{Path, PathBuf};

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use serde_json::{Value, json};
use tempfile::TempDir;
use testing::cluster::{self, Cluster};
use testing::eventually::eventually;

use super::pods;
use super::replica::Replica;
use crate::certificate;

/// The label of namespaces that tells installations apart.
const LABEL: &str = "tests/installation";
const CONFIGURATION: &str = "podidentity.dev";

/// What a test wants other than the manifests say.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Beside the Deployment's.
    pub(crate) arguments: Vec<String>,
    pub(crate) replicas: usize,
}

impl Plan {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, arguments: vec![], replicas: 1 }
    }

    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }
}

/// An installation whose replicas are ready and whom the API server asks.
pub(crate) struct Installation {
    pub(crate) client: Client,
    pub(crate) replicas: Vec<Replica>,
    plan: Plan,
    kubeconfig: PathBuf,
    deployment: Value,
    logs: TempDir,
}

impl Installation {
    pub(crate) async fn start(cluster: &Cluster, plan: Plan) -> Self {
        let client = cluster.client().await;
        let mut deployment = Value::Null;
        for mut object in manifests() {
            plan.rename(&mut object);
            if object["kind"] == "MutatingWebhookConfiguration" {
                plan.narrow(&mut object);
            }
            // In an order that is right: a namespace comes before what is in it.
            cluster::apply_object(&client, &object).await;
            if object["kind"] == "Deployment" {
                deployment = object;
            }
        }
        let namespace = plan.namespace();
        let kubeconfig = cluster.kubeconfig_of(&namespace, "pod-identity-webhook").await;
        let logs = tempfile::tempdir().unwrap();
        let mut installation = Self { client, replicas: vec![], plan, kubeconfig, deployment, logs };
        for _ in 0..installation.plan.replicas {
            let replica = installation.replica();
            replica.ready().await;
            installation.replicas.push(replica);
        }
        installation.route().await;
        installation.namespace("probe", &[]).await;
        installation.asked().await;
        installation
    }

    /// One more replica, which nobody asks yet.
    pub(crate) fn replica(&self) -> Replica {
        Replica::start(&self.arguments(), self.logs.path())
    }

    /// The Service leads to these replicas, as the controller of endpoints has it once they are ready.
    pub(crate) async fn route(&self) {
        let endpoints: Vec<_> = self.replicas.iter().map(Replica::endpoint).collect();
        cluster::set_endpoints(&self.client, &self.plan.namespace(), "pod-identity-webhook", &endpoints)
            .await;
    }

    /// A namespace of this installation: its full name.
    pub(crate) async fn namespace(&self, name: &str, labels: &[(&str, &str)]) -> String {
        let name = format!("{}-{name}", self.plan.name);
        let labels = [labels, &[(LABEL, self.plan.name)]].concat();
        cluster::namespace(&self.client, &name, &labels).await;
        name
    }

    /// The namespace of the webhook itself.
    pub(crate) fn own_namespace(&self) -> String {
        self.plan.namespace()
    }

    /// The labels of the namespaces that are its own.
    pub(crate) fn label(&self) -> Value {
        json!({LABEL: self.plan.name})
    }

    /// How many reviews the replicas have been sent.
    pub(crate) async fn reviews(&self) -> f64 {
        let mut sum = 0.0;
        for replica in &self.replicas {
            sum += replica.metric("pod_identity_webhook_reviews_total").await;
        }
        sum
    }

    /// What the API server verifies the webhook with.
    pub(crate) async fn ca_bundle(&self) -> Vec<u8> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let configuration = api.get(&format!("{}.{CONFIGURATION}", self.plan.name)).await.unwrap();
        configuration.webhooks.unwrap()[0].client_config.ca_bundle.clone().unwrap().0
    }

    /// Two thirds of the certificate's life are over: it is time for a new one.
    pub(crate) async fn age_certificate(&self) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.plan.namespace());
        certificate::age(&secrets, "pod-identity-webhook").await;
    }

    /// The arguments of the Deployment's container, but for those that a test gives itself.
    fn arguments(&self) -> Vec<String> {
        let container = &self.deployment["spec"]["template"]["spec"]["containers"][0];
        let given = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
        let mut own = self.plan.arguments.clone();
        own.push(format!("--kubeconfig={}", self.kubeconfig.display()));
        let flag = |argument: &str| argument.split('=').next().map(str::to_owned);
        let given = given.filter(|argument| {
            // Replicas differ by port here, where pods do by address.
            let of_replica = argument.starts_with("--port=") || argument.starts_with("--metrics-port=");
            !of_replica && own.iter().all(|own| flag(own) != flag(argument))
        });
        let given = given.map(|argument| argument.replace("$(POD_NAMESPACE)", &self.plan.namespace()));
        given.chain(own.iter().cloned()).collect()
    }

    /// Waits until the API server knows of the webhook: it reads configurations and endpoints by watch.
    async fn asked(&self) {
        let namespace = format!("{}-probe", self.plan.name);
        eventually("the API server asks the webhook", async || {
            let mut pod = pods::pod("probe", "default");
            pod["metadata"]["labels"] = json!({"podidentity.dev/inject": "enabled"});
            let pod = pods::create_dry(&self.client, &namespace, pod).await.ok()?;
            pods::is_injected(&pod).then_some(())
        })
        .await;
    }
}

impl Plan {
    /// The namespace of the webhook itself.
    fn namespace(&self) -> String {
        format!("pod-identity-{}", self.name)
    }

    /// Names of its own for what is the cluster's, and a namespace of its own for all else.
    fn rename(&self, object: &mut Value) {
        let own = |name: &mut Value| *name = json!(format!("{}.{}", self.name, name.as_str().unwrap()));
        replace_everywhere(object, "pod-identity", &self.namespace());
        replace_everywhere(object, CONFIGURATION, &format!("{}.{CONFIGURATION}", self.name));
        match object["kind"].as_str().unwrap() {
            "ClusterRole" | "PriorityLevelConfiguration" => own(&mut object["metadata"]["name"]),
            "ClusterRoleBinding" => {
                own(&mut object["metadata"]["name"]);
                own(&mut object["roleRef"]["name"]);
            }
            "FlowSchema" => {
                own(&mut object["metadata"]["name"]);
                own(&mut object["spec"]["priorityLevelConfiguration"]["name"]);
            }
            _ => {} // in the namespace
        }
    }

    /// Only for the namespaces of this installation.
    fn narrow(&self, configuration: &mut Value) {
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            let ours = json!({"key": LABEL, "operator": "In", "values": [self.name]});
            webhook["namespaceSelector"]["matchExpressions"].as_array_mut().unwrap().push(ours);
        }
    }
}

/// Whole values only, and the whole value of a flag.
fn replace_everywhere(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text == from => *text = to.to_owned(),
        Value::String(text) => {
            let flag = text.strip_suffix(from).filter(|flag| flag.starts_with("--") && flag.ends_with('='));
            if let Some(replaced) = flag.map(|flag| format!("{flag}{to}")) {
                *text = replaced;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| replace_everywhere(value, from, to)),
        Value::Object(members) => members.values_mut().for_each(|value| replace_everywhere(value, from, to)),
        _ => {}
    }
}

/// The objects of `deploy/webhook`, in the order of its kustomization.
fn manifests() -> Vec<Value> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/webhook");
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let kustomization = cluster::documents(&read("kustomization.yaml"));
    let files = kustomization[0]["resources"].as_array().unwrap();
    files.iter().flat_map(|file| cluster::documents(&read(file.as_str().unwrap()))).collect()
}
