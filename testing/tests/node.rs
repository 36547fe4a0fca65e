//! The Kubernetes node for tests: pods, tokens, DNS, Services, images, and the teardown.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testing::eventually::eventually;
use testing::node::{ADDRESS, BUSYBOX, IPV6_ADDRESS, ISSUER, Node};
use testing::program::Program;

/// The environment variable of the process that is killed.
const OTHER_PROCESS: &str = "NODE_OF_ANOTHER_PROCESS";

/// Kernel parameters of the whole machine that the kubelet and kube-proxy change.
const PARAMETERS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "net/netfilter/nf_conntrack_max",
];

fn parameters() -> Vec<Option<String>> {
    PARAMETERS.map(|name| fs::read_to_string(Path::new("/proc/sys").join(name)).ok()).into()
}

/// Returns the kernel parameters from before the first node.
fn first_parameters() -> &'static Vec<Option<String>> {
    static PARAMETERS: OnceLock<Vec<Option<String>>> = OnceLock::new();
    PARAMETERS.get_or_init(parameters)
}

fn node() -> Option<&'static Node> {
    first_parameters();
    Node::shared()
}

/// Returns a script for bash that sends an HTTP request and prints the response.
fn request(address: &str, port: u16) -> String {
    format!("exec 3<>/dev/tcp/{address}/{port}; printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3")
}

#[test]
fn node_is_ready() {
    let Some(node) = node() else { return };
    node.wait_for("default", "node/node", "condition=Ready");
    let addresses = node.kubectl(&["get", "node", "node", "-o", "jsonpath={.status.addresses[*].address}"]);
    assert_eq!(addresses, format!("{ADDRESS} {IPV6_ADDRESS} node"));
}

#[test]
fn pod_gets_a_token_for_eks_pod_identity() {
    let Some(node) = node() else { return };
    node.create_namespace("tokens");
    node.kubectl(&["-n", "tokens", "create", "serviceaccount", "app"]);
    let mut pod = node.host_pod("tokens", "app-1", "app", &["cat", "/var/run/secrets/eks/token"]);
    let token = json!({"audience": "pods.eks.amazonaws.com", "expirationSeconds": 86400, "path": "token"});
    let volume = json!({"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(volume);
    let mount = json!({"name": "token", "mountPath": "/var/run/secrets/eks"});
    pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount);
    let token = node.run_pod(&pod);
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], json!(["pods.eks.amazonaws.com"]));
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!(ISSUER), &json!("system:serviceaccount:tokens:app"))
    );
    let kubernetes = &claims["kubernetes.io"];
    assert_eq!((&kubernetes["pod"]["name"], &kubernetes["node"]["name"]), (&json!("app-1"), &json!("node")));
}

#[test]
fn pod_reads_the_keys_of_the_issuer() {
    let Some(node) = node() else { return };
    node.create_namespace("keys");
    let command = ["kubectl", "get", "--raw", "/openid/v1/jwks"];
    let keys: Value =
        serde_json::from_str(&node.run_pod(&node.host_pod("keys", "reader", "default", &command))).unwrap();
    assert_eq!(keys["keys"][0]["alg"], "RS256");
}

#[test]
fn dns_resolves_services_in_pods() {
    let Some(node) = node() else { return };
    node.create_namespace("dns");
    let mut pod = node.host_pod("dns", "pod", "default", &["getent", "hosts", "kubernetes.default.svc"]);
    assert!(node.run_pod(&pod).starts_with("10.96.0.1 "));
    pod["metadata"]["name"] = json!("host-network-pod");
    pod["spec"]["hostNetwork"] = json!(true);
    pod["spec"]["dnsPolicy"] = json!("ClusterFirstWithHostNet");
    assert!(node.run_pod(&pod).starts_with("10.96.0.1 "));
}

#[test]
fn pod_is_reachable_by_its_addresses_and_by_its_service() {
    let Some(node) = node() else { return };
    node.create_namespace("services");
    let script =
        "mkdir /tmp/www && echo hello from a pod >/tmp/www/index.html && httpd -f -p 8080 -h /tmp/www";
    let container = json!({
        "name": "main", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script],
        "readinessProbe": {"httpGet": {"port": 8080, "path": "/index.html"}, "periodSeconds": 1},
    });
    let addresses = node.start_pod(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "server", "namespace": "services", "labels": {"app": "server"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }));
    let [ipv4, ipv6] = addresses[..] else { panic!("addresses of the pod: {addresses:?}") };
    assert!(ipv4.is_ipv4() && ipv6.is_ipv6(), "{addresses:?}");
    let spec = json!({
        "selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}],
        "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
    });
    let metadata = json!({"name": "server", "namespace": "services"});
    node.apply(
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}).to_string(),
    );
    let service = ["-n", "services", "get", "service", "server", "-o", "jsonpath={.spec.clusterIPs[*]}"];
    let service = node.kubectl(&service);
    let (service_ipv4, service_ipv6) = service.split_once(' ').unwrap();
    let mut script = "set -e\n".to_owned();
    for (address, port) in [(ipv4.to_string(), 8080), (ipv6.to_string(), 8080)] {
        script += &format!("({})\n", request(&address, port));
    }
    // kube-proxy needs a moment for a new Service.
    for address in [service_ipv4, service_ipv6, "server"] {
        script += &format!("until ({}); do sleep 0.2; done\n", request(address, 80));
    }
    let output = node.run_pod(&node.host_pod("services", "client", "default", &["bash", "-c", &script]));
    assert_eq!(output.matches("hello from a pod").count(), 5, "{output}");
}

#[test]
fn server_of_the_test_sees_the_addresses_of_pods() {
    let Some(node) = node() else { return };
    node.create_namespace("peers");
    let mut script = "set -e\n".to_owned();
    for address in [IpAddr::from(ADDRESS), IpAddr::from(IPV6_ADDRESS)] {
        let listener = node.run(async move || TcpListener::bind((address, 9000)).unwrap());
        std::thread::spawn(move || {
            for mut client in listener.incoming().map(Result::unwrap) {
                let peer = client.peer_addr().unwrap().ip();
                client.write_all(format!("from {peer}\n").as_bytes()).unwrap();
            }
        });
        script += &format!("exec 3<>/dev/tcp/{address}/9000; cat <&3\n");
    }
    let mut pod = node.host_pod("peers", "pod", "default", &["bash", "-c", &script]);
    let output = node.run_pod(&pod);
    let addresses = ["-n", "peers", "get", "pod", "pod", "-o", "jsonpath={.status.podIPs[*].ip}"];
    let addresses = node.kubectl(&addresses);
    let (ipv4, ipv6) = addresses.split_once(' ').unwrap();
    assert_eq!(output, format!("from {ipv4}\nfrom {ipv6}\n"));

    pod["metadata"]["name"] = json!("host-network-pod");
    pod["spec"]["hostNetwork"] = json!(true);
    assert_eq!(node.run_pod(&pod), format!("from {ADDRESS}\nfrom {IPV6_ADDRESS}\n"));
}

#[test]
fn pod_runs_an_image_of_local_files() {
    let Some(node) = node() else { return };
    node.create_namespace("images");
    let busybox = node.command("sh").args(["-c", "command -v busybox"]).output().unwrap();
    let busybox = PathBuf::from(String::from_utf8(busybox.stdout).unwrap().trim());
    let image = "localhost/hello:test";
    node.make_image(image, &["/opt/busybox", "echo", "hello from an image"], &[(&busybox, "/opt/busybox")]);
    let output = node.run_pod(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello", "namespace": "images"},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]},
    }));
    assert_eq!(output, "hello from an image\n");
}

#[test]
fn failed_pod_is_explained() {
    let Some(node) = node() else { return };
    node.create_namespace("failures");
    let pod = node.host_pod("failures", "failing", "default", &["sh", "-c", "echo the cause; exit 3"]);
    let failure = std::panic::catch_unwind(|| node.run_pod(&pod)).unwrap_err();
    let failure = failure.downcast_ref::<String>().unwrap();
    assert!(failure.contains("phase of pod failing is Failed"), "{failure}");
    assert!(failure.contains("[pod/failing/main] the cause"), "{failure}");
    assert!(failure.contains("Exit Code:    3"), "{failure}");
}

/// Runs in a process of its own, which `killed_node_leaves_nothing_behind` starts and kills.
fn hold_node() {
    let flag = "--service-account-jwks-uri=https://issuer.test/keys";
    let node = Node::start_with("https://issuer.test", &[flag]).unwrap();
    let discovery = node.kubectl(&["get", "--raw", "/.well-known/openid-configuration"]);
    let discovery: Value = serde_json::from_str(&discovery).unwrap();
    assert_eq!(discovery["issuer"], "https://issuer.test");
    assert_eq!(discovery["jwks_uri"], "https://issuer.test/keys");

    let ready = ["--request-timeout=1s", "get", "--raw", "/readyz"];
    node.pause_api_server();
    let error = node.try_kubectl(&ready, "").unwrap_err();
    assert!(error.contains("Client.Timeout") || error.contains("deadline exceeded"), "{error}");
    node.resume_api_server();
    node.kubectl(&ready);
    node.stop_api_server();
    let error = node.try_kubectl(&ready, "").unwrap_err();
    assert!(error.contains("refused"), "{error}");
    node.start_api_server();
    node.kubectl(&ready);

    let namespace = node.command("readlink").arg("/proc/self/ns/net").output().unwrap();
    let namespace = String::from_utf8(namespace.stdout).unwrap();
    println!("\n{} {} {}", node.cgroup(), node.kubeconfig().display(), namespace.trim());
    loop {
        std::thread::park();
    }
}

#[test]
fn killed_node_leaves_nothing_behind() {
    if std::env::var_os(OTHER_PROCESS).is_some() {
        return hold_node();
    }
    let Some(node) = node() else { return };
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts_before = mounts();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "killed_node_leaves_nothing_behind"]);
    command.env(OTHER_PROCESS, "1").stdout(Stdio::piped());
    let mut process = Program::start(&mut command).unwrap();
    let lines = BufReader::new(process.child().stdout.take().unwrap()).lines();
    let mut words =
        lines.map_while(Result::ok).map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let words = words.find(|words| words[0].starts_with("pod-identity-node-")).expect("a running node");
    let [cgroup, kubeconfig, namespace] = &words[..] else { panic!("{words:?}") };
    assert!(left_behind(cgroup, kubeconfig, namespace).len() > 5, "the test finds the node while it runs");
    drop(process); // SIGKILL
    let [cgroup, kubeconfig, namespace] = [cgroup, kubeconfig, namespace].map(Clone::clone);
    node.run(async move || {
        let empty = async || left_behind(&cgroup, &kubeconfig, &namespace).is_empty().then_some(());
        eventually("nothing of the node is left behind", empty).await;
    });
    assert_eq!(mounts(), mounts_before);
    assert_eq!(&parameters(), first_parameters(), "{PARAMETERS:?}");
}

/// Returns the cgroups, files and processes of a node.
fn left_behind(cgroup: &str, kubeconfig: &str, namespace: &str) -> Vec<String> {
    let children = |path: &str| fs::read_dir(path).into_iter().flatten().flatten().map(|child| child.path());
    let cgroups = children("/sys/fs/cgroup").map(|hierarchy| hierarchy.join(cgroup));
    let paths = cgroups.chain([Path::new("/sys/fs/cgroup").join(cgroup), PathBuf::from(kubeconfig)]);
    let paths = paths.filter(|path| path.exists());
    let processes = children("/proc").filter(|process| {
        fs::read_link(process.join("ns/net")).is_ok_and(|link| link == Path::new(namespace))
    });
    paths.chain(processes).map(|path| path.display().to_string()).collect()
}
