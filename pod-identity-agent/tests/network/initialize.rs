//! `initialize` on an empty node, with addresses of others, and without rights.

use std::process::Command;

use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use testing::netns::{self, Namespace};

use crate::process::{Agent, PROGRAM, V4, V6, ask, run};

/// Returns addresses, routes and links of a node.
fn state(node: &Namespace) -> String {
    let show = |arguments: &'static str| {
        node.run(move || Command::new("ip").args(arguments.split(' ')).output().unwrap())
            .join()
            .unwrap()
            .stdout
    };
    let all = ["-o address", "-o -4 route show table all", "-o -6 route show table all", "-o link"].map(show);
    // Link-local addresses come and go by themselves.
    let text = String::from_utf8(all.concat()).unwrap();
    text.lines()
        .filter(|line| !line.contains("fe80") && !line.contains("ff00"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn adds_addresses_that_serve_at_once_and_removes_exactly_them() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    let empty = state(&node);
    let (status, log) = run(&node, &["initialize", "--check"]);
    assert!(status == 1 && log.contains("does not have the address 169.254.170.23"), "{log}");
    assert_eq!(state(&node), empty);

    let (status, log) = run(&node, &["initialize", "-v", "trace"]);
    assert!(status == 0 && log.contains("address added address=fd00:ec2::23"), "{log}");
    assert!(log.contains("kind=\"dummy\"") || log.contains("kind=\"bridge\""), "{log}");
    let added = state(&node);
    assert_eq!(run(&node, &["initialize", "--check"]).0, 0);
    {
        let _agent = Agent::start(&node, "");
        for address in [V4, V6] {
            assert_eq!(ask(&node, address).unwrap().1, "token_malformed");
        }
    }
    let (status, log) = run(&node, &["initialize"]);
    assert!(status == 0 && log.contains("nothing changed"), "{log}");
    assert_eq!(state(&node), added);

    assert_eq!(run(&node, &["initialize", "--delete"]).0, 0);
    assert_eq!(state(&node), empty);
    let (status, log) = run(&node, &["initialize", "--delete"]);
    assert!(status == 0 && log.contains("nothing changed"), "{log}");
}

#[test]
fn keeps_link_and_addresses_of_another_program() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    // As AWS's agent adds them.
    node.ip("link add pod-id-link0 type bridge\nlink set pod-id-link0 up\n").unwrap();
    node.ip("address add 169.254.170.23/32 dev pod-id-link0\n").unwrap();
    node.ip("route add 169.254.170.23/32 dev pod-id-link0\n").unwrap();
    let earlier = state(&node);
    let (status, log) = run(&node, &["initialize"]);
    assert!(status == 0 && log.contains("address already there address=169.254.170.23"), "{log}");
    assert!(log.contains("address added address=fd00:ec2::23 device=\"pod-id-link0\""), "{log}");
    assert_eq!(run(&node, &["initialize", "--delete"]).0, 0);
    assert_eq!(state(&node), earlier);
}

#[test]
fn keeps_its_link_with_an_address_of_another_program() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    assert_eq!(run(&node, &["initialize", "--bind-hosts", "169.254.170.23"]).0, 0);
    node.ip("address add 198.18.0.1/32 dev pod-id-link0\n").unwrap();
    let (status, log) = run(&node, &["initialize", "--delete"]);
    assert!(status == 0 && log.contains("link not removed"), "{log}");
    let left = state(&node);
    assert!(left.contains("198.18.0.1/32") && !left.contains("169.254.170.23"), "{left}");
}

#[test]
fn uses_an_existing_link_that_is_down() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    node.ip("link add pod-id-link0 type bridge\naddress add 169.254.170.23/32 dev pod-id-link0\n").unwrap();
    let (status, log) = run(&node, &["initialize", "--check"]);
    assert!(
        status == 1 && log.contains("the link pod-id-link0 of the address 169.254.170.23 is down"),
        "{log}"
    );
    assert_eq!(run(&node, &["initialize"]).0, 0);
    assert_eq!(run(&node, &["initialize", "--check"]).0, 0);
}

#[test]
fn node_without_ipv6_is_not_an_error() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    node.sysctl("ipv6/conf/all/disable_ipv6", "1").unwrap();
    let (status, log) = run(&node, &["initialize"]);
    assert!(status == 0 && log.contains("the node has no IPv6"), "{log}");
    assert_eq!(run(&node, &["initialize", "--check"]).0, 0);
    let agent = Agent::start(&node, "");
    assert_eq!(ask(&node, V4).unwrap().1, "token_malformed");
    agent.logs("address not bound", 1);
}

#[test]
fn link_without_ipv6_is_not_an_error() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    node.ip("link add pod-id-link0 type bridge\nlink set pod-id-link0 up\n").unwrap();
    node.sysctl("ipv6/conf/pod-id-link0/disable_ipv6", "1").unwrap();
    let (status, log) = run(&node, &["initialize"]);
    assert!(status == 0 && log.contains("IPv6 is disabled on this link"), "{log}");
    assert!(!state(&node).contains("fd00:ec2::23"), "{}", state(&node));
}

/// Runs `initialize` with a bounding set of these capabilities.
fn with_capabilities(node: &Namespace, capabilities: CapabilitySet, flags: &'static str) -> (i32, String) {
    let output = node.run(move || {
        for one in CapabilitySet::all().difference(capabilities).iter() {
            // A kernel may not have the newest ones.
            let _ = remove_capability_from_bounding_set(one);
        }
        Command::new(PROGRAM)
            .arg("initialize")
            .args(flags.split_whitespace())
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    });
    let output = output.join().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn needs_net_admin_and_nothing_else() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    let (status, log) = with_capabilities(&node, CapabilitySet::empty(), "");
    assert!(status == 1 && log.contains("Add the capability NET_ADMIN"), "{log}");
    let (status, log) = with_capabilities(&node, CapabilitySet::NET_ADMIN, "");
    assert_eq!(status, 0, "{log}");
    assert_eq!(with_capabilities(&node, CapabilitySet::empty(), "--check").0, 0);
    let (status, log) = with_capabilities(&node, CapabilitySet::empty(), "--delete");
    assert!(status == 1 && log.contains("Add the capability NET_ADMIN"), "{log}");
    assert_eq!(with_capabilities(&node, CapabilitySet::NET_ADMIN, "--delete").0, 0);
}

#[test]
fn starts_as_go_runner_with_the_program_as_argument() {
    if !netns::available() {
        return;
    }
    let (node, directory) = (Namespace::new().unwrap(), tempfile::tempdir().unwrap());
    let runner = directory.path().join("go-runner");
    std::os::unix::fs::symlink(PROGRAM, &runner).unwrap();
    let arguments = ["/eks-pod-identity-agent", "initialize", "-v", "trace"];
    let started = node.run(move || Command::new(runner).args(arguments).status().unwrap());
    assert!(started.join().unwrap().success());
    assert_eq!(run(&node, &["initialize", "--check"]).0, 0);
}

#[test]
fn refuses_addresses_that_no_link_can_have() {
    for address in ["127.0.0.1", "0.0.0.0", "::", "ff02::1"] {
        let output = Command::new(PROGRAM).args(["initialize", "--bind-hosts", address]).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && log.contains("cannot add it"), "{log}");
    }
}
