//! Deleted pods lose their access.

use std::time::Duration;

use serde_json::json;

use crate::agent::{parse, request, script};
use crate::installation::{eventually, installation};
use crate::pods::{TOKEN, namespace, shell};

#[test]
fn a_deleted_pod_is_refused_within_five_seconds() {
    let Some(installation) = installation() else { return };
    let node = installation.node;
    namespace(installation, "deleted", "cart");
    for used_before in [true, false] {
        let name = if used_before { "used" } else { "never-used" };
        let pod = shell(installation, "deleted", name, "cart", "sleep 600");
        node.start_pod(&pod);
        let token = node.kubectl(&["-n", "deleted", "exec", name, "--", "/bin/cat", TOKEN]);
        if used_before {
            let response = request(node, &token);
            assert_eq!(response.status, 200, "{response:?}");
        }
        node.kubectl(&["-n", "deleted", "delete", "pod", name, "--grace-period=1", "--wait=true"]);
        let took = eventually("the token of a deleted pod is refused", Duration::from_secs(5), || {
            let response = request(node, &token);
            response.status == 403 && response.body.contains("pod_deleted")
        });
        println!("{name}: refused {took:?} after the end of the pod");
    }
}

#[test]
fn a_token_of_a_deleted_pod_is_refused_from_another_pod() {
    let Some(installation) = installation() else { return };
    let node = installation.node;
    namespace(installation, "replay", "cart");
    node.start_pod(&shell(installation, "replay", "victim", "cart", "sleep 600"));
    let token = node.kubectl(&["-n", "replay", "exec", "victim", "--", "/bin/cat", TOKEN]);
    node.kubectl(&["-n", "replay", "delete", "pod", "victim", "--grace-period=1", "--wait=true"]);
    std::thread::sleep(Duration::from_secs(5));
    let mut thief = shell(installation, "replay", "thief", "default", &script("/tmp/stolen/token"));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stolen", "namespace": "replay"},
        "stringData": {"token": token.trim()}});
    node.apply(&secret.to_string());
    thief["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "stolen", "secret": {"secretName": "stolen"}}));
    thief["spec"]["containers"][0]["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "stolen", "mountPath": "/tmp/stolen"}));
    let response = parse(&node.run_pod(&thief));
    assert!(response.status == 403 && response.body.contains("pod_deleted"), "{response:?}");
}
