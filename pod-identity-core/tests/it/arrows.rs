//! The dependency arrows of ARCHITECTURE.md, checked against what cargo builds.

use std::collections::BTreeSet;
use std::process::Command;

/// Every package that a member is built from, on any platform and with all features, its tests left out.
fn built_from(member: &str) -> BTreeSet<String> {
    tree(member, &["--all-features", "--edges", "normal"])
}

/// `cargo tree`, not `cargo metadata`: the latter also lists what no feature turns on.
fn tree(member: &str, options: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--target", "all", "--prefix", "none", "--format", "{p}"])
        .args(["--package", member])
        .args(options)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn forbid(member: &str, forbidden: &[&str]) {
    forbid_in(&built_from(member), member, forbidden);
}

fn forbid_in(tree: &BTreeSet<String>, member: &str, forbidden: &[&str]) {
    assert!(tree.contains(member));
    for name in forbidden {
        assert!(!tree.contains(*name), "{member} must not depend on {name}");
    }
}

#[test]
fn dependencies_point_the_way_that_the_architecture_says() {
    // The rules know no sockets, no Kubernetes, no AWS; and nobody that uses them.
    forbid("pod-identity-core", &["hyper", "kube", "rustls", "aws-config", "aws-smithy-runtime-api"]);
    forbid("pod-identity-core", &["pod-identity-runtime", "pod-identity-local"]);
    // What is shared knows nobody that shares it.
    forbid("pod-identity-runtime", &["pod-identity-agent", "pod-identity-auth", "pod-identity-local"]);
    forbid("pod-identity-runtime", &["pod-identity-webhook", "testing"]);
    // Nor whom they ask: each binary asks AWS in its own way.
    forbid("pod-identity-runtime", &["aws-config", "aws-sdk-sts", "aws-sdk-eksauth"]);
    // The two services know each other by the wire only, the webhook not at all, and nothing that is for
    // laptops or tests.
    forbid(
        "pod-identity-agent",
        &["pod-identity-auth", "pod-identity-webhook", "pod-identity-local", "testing"],
    );
    forbid(
        "pod-identity-auth",
        &["pod-identity-agent", "pod-identity-webhook", "pod-identity-local", "testing"],
    );
    // The webhook verifies no tokens and asks no AWS.
    forbid(
        "pod-identity-webhook",
        &["pod-identity-agent", "pod-identity-auth", "pod-identity-local", "testing"],
    );
    forbid("pod-identity-webhook", &["jsonwebtoken", "aws-config", "aws-smithy-runtime-api"]);
    // The provider is in other people's programs: of ours it has the core, and of the core no tokens.
    forbid(
        "pod-identity-provider",
        &["pod-identity-runtime", "pod-identity-agent", "pod-identity-auth", "pod-identity-webhook"],
    );
    forbid("pod-identity-provider", &["pod-identity-local", "testing", "kube", "jsonwebtoken", "aws-config"]);
    // The laptop program builds on macOS too.
    forbid("pod-identity-local", &["rtnetlink", "testing"]);
}

#[test]
fn a_program_with_the_provider_has_no_tls_unless_it_asks_for_it_and_no_http_of_its_own() {
    let without = tree("pod-identity-provider", &["--edges", "normal"]);
    forbid_in(&without, "pod-identity-provider", &["rustls", "aws-lc-rs", "aws-sdk-sts"]);
    let direct = tree("pod-identity-provider", &["--all-features", "--edges", "normal", "--depth", "1"]);
    let http = ["hyper", "hyper-util", "rustls", "tokio-rustls", "reqwest"];
    forbid_in(&direct, "pod-identity-provider", &http);
}

#[test]
fn core_has_no_more_of_tokio_than_its_channels() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--all-features", "--target", "all", "--edges", "normal,features"])
        .args(["--prefix", "none", "--package", "pod-identity-core", "--invert", "tokio"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let features: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.strip_prefix("tokio feature \"")?.split('"').next()).collect();
    assert_eq!(features, BTreeSet::from(["sync"]), "{tree}");
}

#[test]
fn there_is_one_cryptography_library_and_one_tls_stack() {
    const OTHERS: [&str; 4] = ["ring", "openssl", "native-tls", "dashmap"];
    for member in ["pod-identity-agent", "pod-identity-auth", "pod-identity-webhook", "pod-identity-local"] {
        forbid(member, &OTHERS);
    }
    forbid("pod-identity-provider", &OTHERS);
    // What examples use are dependencies of tests, as cargo sees it.
    forbid_in(&tree("examples", &["--edges", "normal,dev"]), "examples", &OTHERS);
}
