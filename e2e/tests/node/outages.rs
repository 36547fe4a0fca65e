//! Parts of the installation are away.

use std::time::Duration;

use crate::agent::{parse, request, script};
use crate::installation::{NAMESPACE, eventually, installation};
use crate::pods::{TOKEN, namespace, shell};

#[test]
#[ignore = "takes several minutes, and takes the auth service and the API server away"]
fn pods_are_served_through_outages() {
    let Some(installation) = installation() else { return };
    let node = installation.node;
    namespace(installation, "outages", "cart");
    node.start_pod(&shell(installation, "outages", "running", "cart", "sleep 3600"));
    let token = node.kubectl(&["-n", "outages", "exec", "running", "--", "/bin/cat", TOKEN]);
    assert_eq!(request(node, &token).status, 200);

    // The API server is away for 60 s.
    node.pause_api_server();
    for _ in 0..60 {
        let response = request(node, &token);
        assert_eq!(response.status, 200, "{response:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
    node.resume_api_server();

    // The agent starts before the auth service.
    node.kubectl(&["-n", NAMESPACE, "scale", "deployment/pod-identity-auth", "--replicas=0"]);
    node.kubectl(&[
        "-n",
        NAMESPACE,
        "wait",
        "--for=delete",
        "pod",
        "-l",
        "app.kubernetes.io/name=pod-identity-auth",
        "--timeout=60s",
    ]);
    node.kubectl(&["-n", NAMESPACE, "delete", "pod", "-l", "app.kubernetes.io/name=pod-identity-agent"]);
    eventually("the new agent listens", Duration::from_secs(60), || request(node, &token).status != 0);
    let refused = parse(&node.run_pod(&shell(installation, "outages", "early", "cart", &script(TOKEN))));
    assert!(refused.status >= 500, "{refused:?}");
    node.kubectl(&["-n", NAMESPACE, "scale", "deployment/pod-identity-auth", "--replicas=2"]);
    installation.wait_for_rollout("deployment/pod-identity-auth");
    eventually("the pod is served", Duration::from_secs(30), || request(node, &token).status == 200);
    installation.wait_for_rollout("daemonset/pod-identity-agent");
}

#[test]
#[ignore = "takes ten minutes: kubelet replaces a token after 80 % of 600 s"]
fn a_rotated_token_is_served() {
    let Some(installation) = installation() else { return };
    let node = installation.node;
    namespace(installation, "rotation", "cart");
    let annotation = "eks.amazonaws.com/token-expiration=600";
    node.kubectl(&["-n", "rotation", "annotate", "serviceaccount", "cart", annotation]);
    node.start_pod(&shell(installation, "rotation", "running", "cart", "sleep 3600"));
    let read = || node.kubectl(&["-n", "rotation", "exec", "running", "--", "/bin/cat", TOKEN]);
    let first = read();
    assert_eq!(request(node, &first).status, 200);
    let took = eventually("kubelet replaces the token", Duration::from_secs(700), || read() != first);
    println!("kubelet replaced the token after {took:?}");
    assert_eq!(request(node, &read()).status, 200);
}
