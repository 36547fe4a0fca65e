//! Addresses of a running agent, and errors of bind.

use std::net::TcpListener;

use testing::netns::{self, Namespace};

use crate::process::{Agent, V4, V6, ask, eventually, run, server};

const DISAPPEARED: &str = "pod_identity_agent_address_changes_total{change=\"disappeared\"}";
const SERVED_V4: &str = "pod_identity_agent_address{address=\"169.254.170.23\"}";
const SERVED_V6: &str = "pod_identity_agent_address{address=\"fd00:ec2::23\"}";

#[test]
fn serves_an_address_that_appears_after_the_start() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    node.ip("address add 169.254.170.23/32 dev lo\n").unwrap();
    let agent = Agent::start(&node, "");
    agent.logs("address not bound", 1);
    assert_eq!((agent.metric(SERVED_V4), agent.metric(SERVED_V6)), (1.0, 0.0));
    assert_eq!(run(&node, &["initialize"]).0, 0);
    agent.logs("serving credentials on a further address", 1);
    assert_eq!(ask(&node, V6).unwrap().1, "token_malformed");
    assert_eq!(agent.metric(SERVED_V6), 1.0);
}

#[test]
fn reports_an_address_that_disappears_and_serves_it_when_it_returns() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    assert_eq!(run(&node, &["initialize"]).0, 0);
    let agent = Agent::start(&node, "");
    assert_eq!(ask(&node, V4).unwrap().1, "token_malformed");
    for round in 1..=2 {
        node.ip("address del 169.254.170.23/32 dev pod-id-link0\n").unwrap();
        agent.logs("address disappeared from the node", round);
        assert_eq!((agent.metric(SERVED_V4), agent.metric(DISAPPEARED)), (0.0, round as f64));
        assert!(ask(&node, V4).is_err());
        assert_eq!(ask(&node, V6).unwrap().1, "token_malformed");
        assert_eq!(run(&node, &["initialize"]).0, 0);
        agent.logs("address appeared on the node", round);
        // The same socket serves it.
        assert_eq!(ask(&node, V4).unwrap().1, "token_malformed");
        assert_eq!(agent.metric(SERVED_V4), 1.0);
    }
    assert!(!agent.log().contains("a further address"), "{}", agent.log());
}

#[test]
fn reports_a_removed_link_and_a_link_that_goes_down() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    assert_eq!(run(&node, &["initialize"]).0, 0);
    let agent = Agent::start(&node, "");
    node.ip("link set pod-id-link0 down\n").unwrap();
    // The kernel removes IPv6 addresses of a link that goes down, and still delivers to IPv4 addresses.
    eventually("the IPv6 address is gone", || agent.metric(SERVED_V6) == 0.0);
    assert_eq!(agent.metric(SERVED_V4), 1.0);
    assert_eq!(ask(&node, V4).unwrap().1, "token_malformed");
    assert_eq!(run(&node, &["initialize"]).0, 0);
    eventually("both are served", || agent.metric(SERVED_V4) + agent.metric(SERVED_V6) == 2.0);
    node.ip("link del pod-id-link0\n").unwrap();
    eventually("both are gone", || agent.metric(SERVED_V4) + agent.metric(SERVED_V6) == 0.0);
    assert_eq!(run(&node, &["initialize"]).0, 0);
    eventually("both are served", || agent.metric(SERVED_V4) + agent.metric(SERVED_V6) == 2.0);
    assert_eq!(ask(&node, V6).unwrap().1, "token_malformed");
}

/// A pod with NET_ADMIN on the node could give the address to a link of its own.
#[test]
fn reports_an_address_that_moves_to_another_link() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    node.ip("address add 169.254.170.23/32 dev lo\nlink add other type bridge\nlink set other up\n").unwrap();
    let agent = Agent::start(&node, "--bind-hosts 169.254.170.23");
    node.ip("address add 169.254.170.23/32 dev other\naddress del 169.254.170.23/32 dev lo\n").unwrap();
    eventually("the move is logged", || agent.log().contains("to=\"other\""));
    assert!(agent.metric("pod_identity_agent_address_changes_total{change=\"moved\"}") >= 1.0);
    assert_eq!(agent.metric(SERVED_V4), 1.0);
}

#[test]
fn bind_error_names_its_one_cause() {
    if !netns::available() {
        return;
    }
    let node = Namespace::new().unwrap();
    let start = || {
        let flags = server("");
        run(&node, &flags.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (status, log) = start();
    let expected = "cannot serve credentials on 169.254.170.23:80: this node does not have the address. Run \
                    eks-pod-identity-agent initialize";
    assert!(status == 1 && log.contains(expected), "{log}");
    assert_eq!(run(&node, &["initialize"]).0, 0);
    for taken in ["0.0.0.0:80", "169.254.170.23:80", "[::]:80"] {
        let other = node.run(move || TcpListener::bind(taken).unwrap()).join().unwrap();
        let (status, log) = start();
        let expected =
            format!("the port is in use by a program of user 0 that listens on {taken}. End that program");
        assert!(status == 1 && log.contains(&expected), "{taken}: {log}");
        drop(other);
    }
    let _agent = Agent::start(&node, "");
}
