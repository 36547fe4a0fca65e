//! AWS's SDKs resolve credentials with Pod Identity, over IPv4 and IPv6, and with IRSA.

use testing::node::mount;
use testing::sdk::{Go, Java, Node as JavaScript, Python};

use crate::installation::{Installation, installation, programs, sts};
use crate::pods::{Client, namespace, session_of, set, shell};

const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/cart/";
const IPV6_URI: &str = "http://[fd00:ec2::23]/v1/credentials";

fn clients() -> Vec<Client> {
    let mut clients = vec![];
    let rust = programs().join("aws-credentials").display().to_string();
    clients.push(Client { name: "rust", command: rust, directories: vec![programs().to_owned()] });
    if let Some(python) = Python::ready() {
        let directories = vec![python.base_directory()];
        clients.push(Client {
            name: "cli",
            command: format!(
                "AWS_DEFAULT_REGION=eu-west-1 AWS_ENDPOINT_URL_STS={} {}",
                sts(),
                python.aws_cli_in_pod()
            ),
            directories: directories.clone(),
        });
        clients.push(Client { name: "boto3", command: python.credentials_in_pod(), directories });
    }
    if let Some(javascript) = JavaScript::ready() {
        clients.push(Client { name: "js", command: javascript.credentials_in_pod(), directories: vec![] });
    }
    if let Some(go) = Go::ready() {
        clients.push(Client { name: "go", command: go.credentials_in_pod(), directories: vec![] });
    }
    clients
}

fn java() -> Option<Client> {
    let java = Java::ready()?;
    Some(Client { name: "java", command: java.credentials_in_pod(), directories: java.base_directories() })
}

fn resolve(installation: &Installation, clients: &[Client], prefix: &str, variables: &[(&str, &str)]) {
    std::thread::scope(|scope| {
        for client in clients {
            scope.spawn(|| {
                let name = format!("{prefix}-{}", client.name);
                let session = session_of(installation, client, prefix, &name, "cart", variables);
                assert!(session.starts_with(SESSION), "{}: {session}", client.name);
            });
        }
    });
}

/// The SDK reads the region from the pod, because no flag of the webhook sets one.
const REGION: (&str, &str) = ("AWS_REGION", "eu-west-1");

#[test]
fn every_sdk_resolves_pod_identity_over_ipv4() {
    let Some(installation) = installation() else { return };
    namespace(installation, "shop-ipv4", "cart");
    resolve(installation, &clients(), "shop-ipv4", &[REGION]);
}

#[test]
fn every_sdk_resolves_pod_identity_over_ipv6() {
    let Some(installation) = installation() else { return };
    namespace(installation, "shop-ipv6", "cart");
    resolve(
        installation,
        &clients(),
        "shop-ipv6",
        &[REGION, ("AWS_CONTAINER_CREDENTIALS_FULL_URI", IPV6_URI)],
    );
}

#[test]
fn every_sdk_resolves_irsa() {
    let Some(installation) = installation() else { return };
    namespace(installation, "shop-irsa", "cart");
    let role = "eks.amazonaws.com/role-arn=arn:aws:iam::111122223333:role/cart";
    installation.node.kubectl(&["-n", "shop-irsa", "annotate", "serviceaccount", "cart", role]);
    resolve(installation, &clients(), "shop-irsa", &[REGION, ("AWS_ENDPOINT_URL_STS", &sts())]);
}

#[test]
#[ignore = "needs a JDK and Maven"]
fn the_sdk_for_java_resolves_pod_identity_and_irsa() {
    let (Some(installation), Some(java)) = (installation(), java()) else { return };
    let java = [java];
    namespace(installation, "java-ipv4", "cart");
    resolve(installation, &java, "java-ipv4", &[REGION]);
    namespace(installation, "java-ipv6", "cart");
    resolve(installation, &java, "java-ipv6", &[REGION, ("AWS_CONTAINER_CREDENTIALS_FULL_URI", IPV6_URI)]);
    namespace(installation, "java-irsa", "cart");
    let role = "eks.amazonaws.com/role-arn=arn:aws:iam::111122223333:role/cart";
    installation.node.kubectl(&["-n", "java-irsa", "annotate", "serviceaccount", "cart", role]);
    resolve(installation, &java, "java-irsa", &[REGION, ("AWS_ENDPOINT_URL_STS", &sts())]);
}

/// docs/reference/agent.md shows the text of each SDK.
#[test]
fn sdks_get_no_credentials_without_an_association() {
    let Some(installation) = installation() else { return };
    namespace(installation, "strangers", "stranger");
    // The webhook injects although there is no association.
    let inject = "podidentity.dev/inject=enabled";
    installation.node.kubectl(&["label", "namespace", "strangers", inject]);
    std::thread::scope(|scope| {
        for client in clients() {
            scope.spawn(move || {
                let name = format!("stranger-{}", client.name);
                let script = format!("({}) 2>&1 && echo RESOLVED || true", client.command);
                let mut pod = shell(installation, "strangers", &name, "stranger", &script);
                set(&mut pod, &[REGION]);
                for directory in &client.directories {
                    mount(&mut pod, directory);
                }
                let output = installation.node.run_pod(&pod);
                // The SDK for Rust shows only the status, and the one for JavaScript only its first address check.
                if ["boto3", "cli", "go"].contains(&client.name) {
                    assert!(output.contains("[association_not_found]"), "{}: {output}", client.name);
                }
                assert!(!output.contains("RESOLVED"), "{}: {output}", client.name);
            });
        }
    });
}
