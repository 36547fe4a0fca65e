//! Pods that resolve credentials with nothing but what the webhook injects.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use testing::node::mount;

use crate::installation::{Installation, programs, sts};

/// The token that the webhook mounts for Pod Identity.
pub(crate) const TOKEN: &str =
    "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token";

/// An SDK, and how to use it in a pod.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    /// A shell command that prints credentials, or the response of GetCallerIdentity, as JSON.
    pub(crate) command: String,
    /// Directories of the machine that the command needs, beyond those of every host pod.
    pub(crate) directories: Vec<PathBuf>,
}

/// Creates a namespace with a service account.
pub(crate) fn namespace(installation: &Installation, name: &str, service_account: &str) {
    let node = installation.node;
    node.kubectl(&["create", "namespace", name]);
    node.kubectl(&["-n", name, "create", "serviceaccount", service_account]);
}

/// Returns a pod that runs a shell command of the machine.
pub(crate) fn shell(
    installation: &Installation,
    namespace: &str,
    name: &str,
    service_account: &str,
    script: &str,
) -> Value {
    installation.node.host_pod(namespace, name, service_account, &["/bin/sh", "-c", script])
}

/// Adds environment variables to a pod.
pub(crate) fn set(pod: &mut Value, variables: &[(&str, &str)]) {
    let env = pod["spec"]["containers"][0]["env"].as_array_mut().unwrap();
    env.extend(variables.iter().map(|(name, value)| json!({"name": name, "value": value})));
}

/// Runs a client in a pod, and returns the ARN of the role session.
pub(crate) fn session_of(
    installation: &Installation,
    client: &Client,
    namespace: &str,
    name: &str,
    service_account: &str,
    variables: &[(&str, &str)],
) -> String {
    let mut pod = shell(installation, namespace, name, service_account, &client.command);
    set(&mut pod, variables);
    for directory in &client.directories {
        mount(&mut pod, directory);
    }
    let output = installation.node.run_pod(&pod);
    let json = output.find('{').unwrap_or_else(|| panic!("{}: no credentials: {output}", client.name));
    let credentials: Value = serde_json::from_str(output[json..].trim())
        .unwrap_or_else(|error| panic!("{}: {error}: {output}", client.name));
    match credentials["Arn"].as_str() {
        Some(arn) => arn.to_owned(),
        None => identity(installation, &credentials),
    }
}

/// Asks STS for the ARN of credentials.
fn identity(installation: &Installation, credentials: &Value) -> String {
    let member = |name: &str| {
        let value = credentials.get(name).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no {name} in the credentials")).to_owned()
    };
    let mut whoami: Command =
        installation.node.network_command(programs().join("aws-credentials").as_os_str());
    whoami.arg("identity").env("AWS_REGION", "eu-west-1").env("AWS_ENDPOINT_URL_STS", sts());
    whoami.env("AWS_ACCESS_KEY_ID", member("accessKeyId"));
    whoami.env("AWS_SECRET_ACCESS_KEY", member("secretAccessKey"));
    whoami.env("AWS_SESSION_TOKEN", member("sessionToken"));
    let output = whoami.output().unwrap();
    assert!(output.status.success(), "GetCallerIdentity: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
