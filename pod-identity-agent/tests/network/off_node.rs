//! Peers outside the node: a neighbour on the same layer 2 reaches the agent's addresses, whichever link has them.

use testing::netns::{self, Namespace};

use crate::process::{Agent, V4, V6, ask, eventually, run};

/// A node with a pod on a bridge, a pod with host routes, as the VPC CNI makes them, and neighbours on its uplink.
struct Network {
    node: Namespace,
    bridged: Namespace,
    routed: Namespace,
    neighbour: Namespace,
    /// A neighbour without global IPv6 addresses.
    link_local: Namespace,
}

impl Network {
    fn new() -> Self {
        let [node, bridged, routed, neighbour, link_local] = [(); 5].map(|()| Namespace::new().unwrap());
        let commands = |namespace: &Namespace, commands: &str| namespace.ip(commands).unwrap();
        for namespace in [&node, &bridged, &routed, &neighbour, &link_local] {
            // Addresses are usable at once.
            namespace.sysctl("ipv6/conf/default/accept_dad", "0").unwrap();
        }
        bridged.link("eth0", &node, "pod0").unwrap();
        commands(&node, "link add cni0 type bridge\nlink set pod0 master cni0\nlink set cni0 up\n");
        commands(&node, "address add 10.9.0.1/24 dev cni0\naddress add fd09::1/64 dev cni0 nodad\n");
        commands(&bridged, "address add 10.9.0.5/24 dev eth0\naddress add fd09::5/64 dev eth0 nodad\n");
        commands(&bridged, "route add default via 10.9.0.1\nroute add default via fd09::1\n");

        routed.link("eth0", &node, "eni0").unwrap();
        commands(&node, "address add 169.254.1.1/32 dev eni0\naddress add fe80::1/64 dev eni0 nodad\n");
        commands(&node, "route add 10.9.1.5/32 dev eni0 scope link\nroute add fd09:1::5/128 dev eni0\n");
        commands(&routed, "address add 10.9.1.5/32 dev eth0\naddress add fd09:1::5/128 dev eth0 nodad\n");
        commands(
            &routed,
            "route add 169.254.1.1/32 dev eth0 scope link\nroute add default via 169.254.1.1\n",
        );
        commands(&routed, "route add default via fe80::1 dev eth0\n");

        neighbour.link("eth0", &node, "eth0").unwrap();
        commands(&node, "address add 192.0.2.1/24 dev eth0\naddress add 2001:db8::1/64 dev eth0 nodad\n");
        commands(&node, "address add fe80::11/64 dev eth0 nodad\n");
        commands(&node, "route add default via 192.0.2.2\nroute add default via 2001:db8::2\n");
        commands(
            &neighbour,
            "address add 192.0.2.2/24 dev eth0\naddress add 2001:db8::2/64 dev eth0 nodad\n",
        );
        let stolen =
            "route add 169.254.170.23/32 via 192.0.2.1\nroute add fd00:ec2::23/128 via 2001:db8::1\n";
        commands(&neighbour, stolen);

        link_local.link("eth0", &node, "eth1").unwrap();
        commands(&node, "address add fe80::12/64 dev eth1 nodad\n");
        commands(&node, "route add default via fe80::22 dev eth1 metric 2048\n");
        // The node has this address, too, on another link.
        commands(&link_local, "address add fe80::1/64 dev eth0 nodad\n");
        commands(&link_local, "route add fd00:ec2::23/128 via fe80::12 dev eth0 src fe80::1\n");
        Self { node, bridged, routed, neighbour, link_local }
    }

    /// Asserts that pods and the node itself are never taken for neighbours, and returns the codes of the neighbours:
    /// IPv4, IPv6, IPv6 by a link-local address.
    fn neighbours(&self) -> [String; 3] {
        for (name, pod) in [("bridged", &self.bridged), ("routed", &self.routed), ("node", &self.node)] {
            for address in [V4, V6] {
                let answer = ask(pod, address).unwrap_or_else(|error| panic!("{name} {address}: {error}"));
                assert_eq!(answer, (400, "token_malformed".to_owned()), "{name} {address}");
            }
        }
        let code = |namespace, address| ask(namespace, address).unwrap().1;
        [code(&self.neighbour, V4), code(&self.neighbour, V6), code(&self.link_local, V6)]
    }
}

const REFUSED: [&str; 3] = ["off_node_peer"; 3];
const SERVED: [&str; 3] = ["token_malformed"; 3];

#[test]
fn refuses_neighbours_and_serves_pods_for_addresses_on_lo() {
    if !netns::available() {
        return;
    }
    let network = Network::new();
    network.node.ip("address add 169.254.170.23/32 dev lo\naddress add fd00:ec2::23/128 dev lo\n").unwrap();
    let agent = Agent::start(&network.node, "--off-node=refuse");
    assert_eq!(network.neighbours(), REFUSED);
    // Again, from the cache.
    assert_eq!(network.neighbours(), REFUSED);
    let refused = "pod_identity_agent_off_node_requests_total{action=\"refused\"}";
    assert_eq!(agent.metric(refused), 6.0);
    assert_eq!(ask(&network.neighbour, V4).unwrap().0, 403);
}

#[test]
fn refuses_neighbours_and_serves_pods_for_addresses_of_initialize() {
    if !netns::available() {
        return;
    }
    let network = Network::new();
    assert_eq!(run(&network.node, &["initialize"]).0, 0);
    let _agent = Agent::start(&network.node, "--off-node=refuse");
    assert_eq!(network.neighbours(), REFUSED);
}

#[test]
fn warns_about_neighbours_by_default_with_a_limited_number_of_lines() {
    if !netns::available() {
        return;
    }
    let network = Network::new();
    assert_eq!(run(&network.node, &["initialize"]).0, 0);
    let agent = Agent::start(&network.node, "");
    assert_eq!(network.neighbours(), SERVED);
    agent.logs("request from outside the node served", 3);
    for _ in 0..30 {
        ask(&network.neighbour, V4).unwrap();
    }
    let lines = agent.log().lines().filter(|line| line.contains("request from outside the node")).count();
    assert!((10..=14).contains(&lines), "{lines}");
    assert_eq!(agent.metric("pod_identity_agent_off_node_requests_total{action=\"warned\"}"), 33.0);
}

#[test]
fn off_serves_neighbours_without_a_line() {
    if !netns::available() {
        return;
    }
    let network = Network::new();
    assert_eq!(run(&network.node, &["initialize"]).0, 0);
    let agent = Agent::start(&network.node, "--off-node=off");
    assert_eq!(network.neighbours(), SERVED);
    assert!(!agent.log().contains("outside the node"), "{}", agent.log());
}

#[test]
fn follows_changes_of_routes_and_links() {
    if !netns::available() {
        return;
    }
    let network = Network::new();
    assert_eq!(run(&network.node, &["initialize"]).0, 0);
    let _agent = Agent::start(&network.node, "--off-node=refuse");
    let code = || ask(&network.neighbour, V4).map(|(_, code)| code).unwrap_or_default();
    assert_eq!(code(), "off_node_peer");
    // A link without a default route is one of the node's own networks.
    network.node.ip("route del default\nroute del default via 2001:db8::2\n").unwrap();
    eventually("the neighbour is on a network of the node", || code() == "token_malformed");
    network.node.ip("route add default via 192.0.2.2\n").unwrap();
    eventually("the neighbour is outside again", || code() == "off_node_peer");
    // IPv4 routes of a link that goes down disappear without a notification.
    network.node.ip("link set eth0 down\nlink set eth0 up\n").unwrap();
    eventually("no default route leaves by the link", || code() == "token_malformed");
    // A new pod of which the agent has an older route.
    network.node.ip("route add 10.9.2.7/32 via 192.0.2.2\nroute add default via 192.0.2.2\n").unwrap();
    network.neighbour.ip("address add 10.9.2.7/32 dev lo\n").unwrap();
    network.neighbour.ip("route change 169.254.170.23/32 via 192.0.2.1 src 10.9.2.7\n").unwrap();
    eventually("the address is outside", || code() == "off_node_peer");
    network
        .routed
        .ip("address add 10.9.2.7/32 dev eth0\nroute change default via 169.254.1.1 src 10.9.2.7\n")
        .unwrap();
    network.node.ip("route change 10.9.2.7/32 dev eni0 scope link\n").unwrap();
    eventually("the address is a pod's", || {
        ask(&network.routed, V4).is_ok_and(|(_, code)| code == "token_malformed")
    });
}

/// The default route of a table that a rule selects.
#[test]
fn refuses_peers_whose_default_route_is_in_another_table() {
    if !netns::available() {
        return;
    }
    let network = Network::new();
    assert_eq!(run(&network.node, &["initialize"]).0, 0);
    network.node.ip("route del default\nroute del default via 2001:db8::2\n").unwrap();
    network
        .node
        .ip("route add default via 192.0.2.2 table 51\nrule add to 203.0.113.0/24 lookup 51\n")
        .unwrap();
    network.neighbour.ip("address add 203.0.113.9/32 dev lo\n").unwrap();
    network.neighbour.ip("route change 169.254.170.23/32 via 192.0.2.1 src 203.0.113.9\n").unwrap();
    let _agent = Agent::start(&network.node, "--off-node=refuse");
    assert_eq!(ask(&network.neighbour, V4).unwrap(), (403, "off_node_peer".to_owned()));
}
