//! The DaemonSet that AWS's chart renders, with only the image changed.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testing::node::ISSUER;
use testing::program::Program;

use crate::installation::{
    AUTH_KEYS, Installation, NAMESPACE, eventually, installation, programs, sts, workspace,
};
use crate::pods::{Client, namespace, session_of};

/// The key of the agents, as the role of a node has on EKS.
const AGENT_KEYS: [&str; 2] = ["AKIAE2EAGENT00000000", "secret-of-the-agent"];

/// Starts an auth service that accepts AWS's signature, as EKS Auth does. Only the node's own network reaches it.
fn eks_auth(installation: &Installation) -> Program {
    let (node, directory) = (installation.node, installation.directory.path());
    let (keys, token) = (directory.join("agent-keys.json"), directory.join("jwks-token"));
    let [id, secret] = AGENT_KEYS;
    fs::write(&keys, json!([{"accessKeyId": id, "secretAccessKey": secret}]).to_string()).unwrap();
    let mut auth = node.command(programs().join("pod-identity-auth").to_str().unwrap());
    auth.args([
        "--listen=127.0.0.1:8450",
        "--admin=127.0.0.1:8451",
        "--agent-auth=sigv4",
        "--agent-keys-file",
    ]);
    auth.arg(keys).arg("--associations").arg(workspace().join("e2e/tests/node/associations.yaml"));
    auth.args(["--cluster-name=demo", "--region=eu-west-1", "--account-id=111122223333"]);
    auth.arg(format!("--issuer={ISSUER}")).arg("--jwks-url=https://10.96.0.1/openid/v1/jwks");
    auth.arg("--issuer-ca-file").arg(node.ca_file()).arg("--issuer-token-file").arg(token);
    let [id, secret] = AUTH_KEYS;
    auth.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    auth.env("AWS_REGION", "eu-west-1").env("AWS_ENDPOINT_URL_STS", sts());
    Program::start(&mut auth).unwrap()
}

/// Returns the DaemonSet with the members that chart 1.2.0 renders by default, and `--endpoint` in
/// `agent.additionalArgs`.
fn daemon_set() -> Value {
    let launcher = |command: &str| json!(["/go-runner", "/eks-pod-identity-agent", command]);
    let labels =
        json!({"app.kubernetes.io/name": "eks-pod-identity-agent", "app.kubernetes.io/instance": "agent"});
    let image = "pod-identity-agent:0.1.0"; // the only change
    let probe = |path: &str, failures: u32| {
        let get = json!({"host": "localhost", "path": path, "port": "probes-port", "scheme": "HTTP"});
        json!({"failureThreshold": failures, "httpGet": get, "initialDelaySeconds": 1, "timeoutSeconds": 10})
    };
    let [id, secret] = AGENT_KEYS;
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "eks-pod-identity-agent", "namespace": "kube-system", "labels": labels},
        "spec": {
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": "10%"}, "type": "RollingUpdate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "priorityClassName": "system-node-critical",
                    "hostNetwork": true,
                    "terminationGracePeriodSeconds": 30,
                    "tolerations": [{"operator": "Exists"}],
                    "automountServiceAccountToken": false,
                    "initContainers": [{
                        "name": "eks-pod-identity-agent-init", "image": image, "imagePullPolicy": "IfNotPresent",
                        "command": launcher("initialize"), "securityContext": {"privileged": true},
                    }],
                    "containers": [{
                        "name": "eks-pod-identity-agent", "image": image, "imagePullPolicy": "IfNotPresent",
                        "command": launcher("server"),
                        "args": [
                            "--port", "80", "--cluster-name", "demo", "--probe-port", "2703", "-v", "trace",
                            "--endpoint", "http://127.0.0.1:8450",
                        ],
                        "ports": [
                            {"containerPort": 80, "protocol": "TCP", "name": "proxy"},
                            {"containerPort": 2703, "protocol": "TCP", "name": "probes-port"},
                        ],
                        "env": [
                            {"name": "AWS_REGION", "value": "eu-west-1"},
                            {"name": "AWS_ACCESS_KEY_ID", "value": id},
                            {"name": "AWS_SECRET_ACCESS_KEY", "value": secret},
                        ],
                        "securityContext": {"capabilities": {"add": ["CAP_NET_BIND_SERVICE"]}},
                        "resources": {},
                        "livenessProbe": probe("/healthz", 3),
                        "readinessProbe": probe("/readyz", 30),
                    }],
                },
            },
        },
    })
}

#[test]
#[ignore = "replaces the agent of the other tests: run it with --test-threads=1"]
fn the_manifests_of_the_aws_chart_work_with_this_image() {
    let Some(installation) = installation() else { return };
    let node = installation.node;
    namespace(installation, "chart", "cart");
    let _eks_auth = eks_auth(installation);
    node.kubectl(&["-n", NAMESPACE, "delete", "daemonset", "pod-identity-agent", "--wait=true"]);
    node.kubectl(&[
        "-n",
        NAMESPACE,
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app.kubernetes.io/name=pod-identity-agent",
        "--timeout=60s",
    ]);
    node.apply(&daemon_set().to_string());
    let status =
        ["-n", "kube-system", "rollout", "status", "daemonset/eks-pod-identity-agent", "--timeout=90s"];
    if let Err(error) = node.try_kubectl(&status, "") {
        panic!("{error}\n{}", node.diagnosis("kube-system"));
    }
    let directory = programs().to_owned();
    let command = directory.join("aws-credentials").display().to_string();
    let rust = Client { name: "rust", command, directories: vec![directory] };
    let session = session_of(installation, &rust, "chart", "app", "cart", &[("AWS_REGION", "eu-west-1")]);
    assert!(session.starts_with("arn:aws:sts::111122223333:assumed-role/cart/"), "{session}");
    node.kubectl(&["-n", "kube-system", "delete", "daemonset", "eks-pod-identity-agent", "--wait=true"]);
    eventually("the port is free", Duration::from_secs(60), || {
        node.try_kubectl(&["-n", "kube-system", "get", "pods", "-o", "name"], "")
            .is_ok_and(|pods| !pods.contains("eks-pod-identity-agent"))
    });
    installation.apply("self-managed");
    installation.wait_for_rollout("daemonset/pod-identity-agent");
}
