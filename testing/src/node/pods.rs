//! Pods of a test: specifications, waiting, and the cause of a failure.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use super::{BUSYBOX, Node};
use crate::cluster::{client, files};
use crate::install;

/// How long a pod may take.
const LIMIT: Duration = Duration::from_secs(60);

impl Node {
    /// Returns a pod that runs a command of the machine, such as `python3` or a program that the test has built. The pod
    /// sees the machine's `/usr` and libraries, the workspace and the target directory, at their paths, read-only. [`mount`]
    /// adds another directory. The container's name is `main`; its `PATH` is the one of the test.
    ///
    /// The command runs as root of the pod, once. A test can change the pod before it is created.
    pub fn host_pod(&self, namespace: &str, name: &str, service_account: &str, command: &[&str]) -> Value {
        let path = self.path.to_string_lossy();
        let container = json!({
            "name": "main", "image": BUSYBOX, "imagePullPolicy": "Never", "command": command,
            "env": [{"name": "PATH", "value": path}, {"name": "HOME", "value": "/tmp"}], "volumeMounts": [],
        });
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "serviceAccountName": service_account, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
                "containers": [container], "volumes": [],
            },
        });
        let system =
            ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ssl", "/etc/alternatives"].map(Path::new);
        for directory in system.into_iter().chain([install::workspace(), &install::tools()]) {
            if directory.is_dir() {
                mount(&mut pod, directory);
            }
        }
        pod
    }

    /// Creates a namespace, and waits for its service account `default`.
    ///
    /// # Panics
    /// If the namespace exists.
    pub fn create_namespace(&self, name: &str) {
        self.kubectl(&["create", "namespace", name]);
        self.wait_for(name, "serviceaccount/default", "create");
    }

    /// Creates a pod, waits for its end, and returns its log.
    ///
    /// # Panics
    /// If the pod fails, or has not ended after a minute. The message contains its state, events and log.
    pub fn run_pod(&self, pod: &Value) -> String {
        let (namespace, name) = self.create_pod(pod);
        let (kubeconfig, pods, pod) = (self.kubeconfig(), namespace.clone(), name.clone());
        let phase = self.run(async move || {
            let api: Api<Pod> = Api::namespaced(client(&kubeconfig).await, &pods);
            let phase = |pod: Option<&Pod>| pod?.status.as_ref()?.phase.clone();
            let ended = move |pod: Option<&Pod>| {
                phase(pod).is_some_and(|phase| phase == "Succeeded" || phase == "Failed")
            };
            match tokio::time::timeout(LIMIT, await_condition(api, &pod, ended)).await {
                Ok(Ok(pod)) => phase(pod.as_ref()).unwrap_or_default(),
                Ok(Err(error)) => format!("unknown: {error}"),
                Err(_) => format!("not ended after {} s", LIMIT.as_secs()),
            }
        });
        assert_eq!(phase, "Succeeded", "phase of pod {name} is {phase}:\n{}", self.diagnosis(&namespace));
        self.kubectl(&["-n", &namespace, "logs", &name, "--all-containers"])
    }

    /// Creates a pod, and waits until it is ready. Returns its addresses, IPv4 first.
    ///
    /// # Panics
    /// If it is not ready after a minute. The message contains its state, events and log.
    pub fn start_pod(&self, pod: &Value) -> Vec<std::net::IpAddr> {
        let (namespace, name) = self.create_pod(pod);
        let pod = format!("pod/{name}");
        self.wait_for(&namespace, &pod, "condition=Ready");
        let addresses =
            self.kubectl(&["-n", &namespace, "get", &pod, "-o", "jsonpath={.status.podIPs[*].ip}"]);
        addresses.split(' ').map(|address| address.parse().expect("an address")).collect()
    }

    fn create_pod(&self, pod: &Value) -> (String, String) {
        let text = |pointer| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.apply(&pod.to_string());
        (text("/metadata/namespace"), text("/metadata/name"))
    }

    /// Waits for a condition of an object, for example `condition=Ready`, as `kubectl wait --for` does.
    ///
    /// # Panics
    /// After a minute. The message contains the state, events and logs of the namespace's pods.
    pub fn wait_for(&self, namespace: &str, object: &str, condition: &str) {
        let limit = format!("--timeout={}s", LIMIT.as_secs());
        let result = self.try_kubectl(&["-n", namespace, "wait", object, "--for", condition, &limit], "");
        if let Err(error) = result {
            panic!("{object} in the namespace {namespace}: {error}\n{}", self.diagnosis(namespace));
        }
    }

    /// Returns the state, events and logs of a namespace's pods, and the last lines of the node's logs.
    pub fn diagnosis(&self, namespace: &str) -> String {
        let kubectl = |arguments: &[&str]| {
            let arguments = [&["-n", namespace], arguments].concat();
            let output = self.try_kubectl(&arguments, "").unwrap_or_else(|error| error);
            format!("kubectl {}:\n{output}\n", arguments.join(" "))
        };
        let mut text = kubectl(&["get", "node,all", "-o", "wide"]) + &kubectl(&["describe", "pods"]);
        let pods = self.try_kubectl(&["-n", namespace, "get", "pods", "-o", "name"], "").unwrap_or_default();
        for pod in pods.lines() {
            text += &kubectl(&["logs", pod, "--all-containers", "--prefix", "--tail=50"]);
        }
        text + &files::logs(self.directory())
    }
}

/// Mounts a directory of the machine into all containers of a pod, read-only, at its path.
///
/// # Panics
/// If the pod has no containers.
pub fn mount(pod: &mut Value, directory: &Path) {
    let spec = &mut pod["spec"];
    let volumes = list(&mut spec["volumes"]);
    let name = format!("machine-{}", volumes.len());
    volumes.push(json!({"name": name, "hostPath": {"path": directory}}));
    for container in list(&mut spec["containers"]) {
        let mount = json!({"name": name, "mountPath": directory, "readOnly": true});
        list(&mut container["volumeMounts"]).push(mount);
    }
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().expect("a list")
}
