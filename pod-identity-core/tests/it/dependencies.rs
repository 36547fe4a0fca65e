//! The dependencies between crates as in ARCHITECTURE.md, checked against cargo's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns every package that a member is built from, on any platform and with all features, without its tests.
fn built_from(member: &str) -> BTreeSet<String> {
    tree(member, "all", &["--all-features", "--edges", "normal"])
}

/// Runs `cargo tree`, because `cargo metadata` also lists dependencies of disabled features.
fn tree(member: &str, platform: &str, options: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none", "--format", "{p}"])
        .args(["--package", member, "--target", platform])
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
fn dependencies_match_the_architecture() {
    // The core uses no sockets, no Kubernetes and no AWS SDK, and none of the crates that use the core.
    forbid("pod-identity-core", &["hyper", "kube", "rustls", "aws-config", "aws-smithy-runtime-api"]);
    forbid("pod-identity-core", &["pod-identity-runtime", "pod-identity-local"]);
    // The runtime uses none of the crates that use the runtime.
    forbid("pod-identity-runtime", &["pod-identity-agent", "pod-identity-auth", "pod-identity-local"]);
    forbid("pod-identity-runtime", &["pod-identity-webhook", "testing"]);
    // The runtime does not call AWS. Each binary has its own client.
    forbid("pod-identity-runtime", &["aws-config", "aws-sdk-sts", "aws-sdk-eksauth"]);
    // The agent and the auth service use no code of each other or of the webhook, and no crate for laptops or tests.
    forbid(
        "pod-identity-agent",
        &["pod-identity-auth", "pod-identity-webhook", "pod-identity-local", "testing"],
    );
    forbid(
        "pod-identity-auth",
        &["pod-identity-agent", "pod-identity-webhook", "pod-identity-local", "testing"],
    );
    // The webhook verifies no tokens and does not call AWS.
    forbid(
        "pod-identity-webhook",
        &["pod-identity-agent", "pod-identity-auth", "pod-identity-local", "testing"],
    );
    forbid("pod-identity-webhook", &["jsonwebtoken", "aws-config", "aws-smithy-runtime-api"]);
    // The provider is part of other programs. It uses only the core, without tokens.
    forbid(
        "pod-identity-provider",
        &["pod-identity-runtime", "pod-identity-agent", "pod-identity-auth", "pod-identity-webhook"],
    );
    forbid("pod-identity-provider", &["pod-identity-local", "testing", "kube", "jsonwebtoken", "aws-config"]);
    forbid("pod-identity-local", &["testing"]);
    // The program for laptops also builds on macOS.
    let on_macos = tree("pod-identity-local", "x86_64-apple-darwin", &["--edges", "normal"]);
    forbid_in(&on_macos, "pod-identity-local", &["rtnetlink"]);
}

#[test]
fn provider_has_no_own_http_and_only_optional_tls() {
    let without = tree("pod-identity-provider", "all", &["--edges", "normal"]);
    forbid_in(&without, "pod-identity-provider", &["rustls", "aws-lc-rs", "aws-sdk-sts"]);
    let direct =
        tree("pod-identity-provider", "all", &["--all-features", "--edges", "normal", "--depth", "1"]);
    let http = ["hyper", "hyper-util", "rustls", "tokio-rustls", "reqwest"];
    forbid_in(&direct, "pod-identity-provider", &http);
}

/// Returns the features of tokio that the core enables.
fn features_of_tokio(features: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--target", "all", "--edges", "normal,features", "--prefix", "none"])
        .args(["--package", "pod-identity-core", "--no-default-features", "--features", features])
        .args(["--invert", "tokio"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let feature = |line: &str| Some(line.strip_prefix("tokio feature \"")?.split('"').next()?.to_owned());
    tree.lines().filter_map(feature).collect()
}

#[test]
fn core_uses_channels_of_tokio_and_with_service_also_tasks_and_timers() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(features_of_tokio("verify,trust"), set(&["sync"]));
    assert_eq!(features_of_tokio("service"), set(&["rt", "sync", "time"]));
}

/// Collects the sources of the core, without comments and tests.
fn sources(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["tests", "tests.rs", "interleavings.rs"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        found.push((path, lines.collect::<Vec<_>>().join("\n")));
    }
}

#[test]
fn core_reads_clocks_only_in_the_service() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&source, &mut files);
    let clock = source.join("clock.rs");
    let (service, rules): (Vec<_>, Vec<_>) =
        files.iter().partition(|(path, _)| path.starts_with(source.join("service")) || *path == clock);
    let with = |files: &[&(PathBuf, String)], words: &[&str]| {
        let has = |text: &str| words.iter().any(|word| text.contains(word));
        let names = files.iter().filter(|(_, text)| has(text)).map(|(path, _)| path.clone());
        names.collect::<Vec<_>>()
    };
    let clocks = ["SystemTime::now", "Instant::now", ".elapsed()"];
    assert_eq!(with(&service, &clocks), std::slice::from_ref(&clock));
    assert_eq!(with(&rules, &clocks), Vec::<PathBuf>::new(), "time is an argument");
    // The rules use no timers, tasks, files, sockets or processes either.
    let of_an_embedder = [
        "tokio::time",
        "tokio::spawn",
        "tokio::task",
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::process",
        "std::thread",
    ];
    let rules: Vec<_> = rules.into_iter().filter(|(path, _)| !path.ends_with("src/service.rs")).collect();
    assert!(rules.len() > 40, "the sources were not found");
    assert_eq!(with(&rules, &of_an_embedder), Vec::<PathBuf>::new());
}

#[test]
fn there_is_one_cryptography_library_and_one_tls_stack() {
    const OTHERS: [&str; 4] = ["ring", "openssl", "native-tls", "dashmap"];
    for member in ["pod-identity-agent", "pod-identity-auth", "pod-identity-webhook", "pod-identity-local"] {
        forbid(member, &OTHERS);
    }
    forbid("pod-identity-provider", &OTHERS);
    // cargo lists dependencies of examples as dependencies of tests.
    forbid_in(&tree("examples", "all", &["--edges", "normal,dev"]), "examples", &OTHERS);
}
