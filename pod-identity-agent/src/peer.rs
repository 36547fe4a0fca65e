//! The peer of a network address. Each peer has its own limits.

use std::net::IpAddr;
use std::sync::Arc;

use pod_identity_core::service::Peer;

use crate::network::Routes;

/// The addresses of this machine. All of them are one peer, because a request of a hostNetwork pod may come from any of
/// them.
#[derive(Debug)]
pub struct LocalAddresses {
    served: Vec<IpAddr>,
    routes: Arc<Routes>,
}

impl LocalAddresses {
    /// Makes the addresses. `served` are the addresses that the agent serves on.
    ///
    /// If `routes` finds no routes, only loopback addresses and `served` are local. A request of a hostNetwork pod comes
    /// from an address in `served` unless the pod binds another one.
    pub fn new(served: Vec<IpAddr>, routes: Arc<Routes>) -> Self {
        Self { served, routes }
    }

    /// Returns the peer of an address. The routing lookup happens at the conversion to [`Peer`], because most requests
    /// are served from the cache and need no peer.
    pub fn request_peer(&self, address: IpAddr) -> RequestPeer<'_> {
        RequestPeer { local: self, address }
    }

    fn peer(&self, address: IpAddr) -> Peer {
        let address = address.to_canonical();
        if self.is_local(address) { Peer::Local } else { Peer::Remote(address) }
    }

    fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.served.contains(&address) || self.routes.is_local(address)
    }
}

/// The peer of a request, before it is looked up.
#[derive(Debug)]
pub struct RequestPeer<'a> {
    local: &'a LocalAddresses,
    address: IpAddr,
}

impl From<RequestPeer<'_>> for Peer {
    fn from(peer: RequestPeer<'_>) -> Self {
        peer.local.peer(peer.address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    use testing::netns::{self, Namespace};

    use super::*;

    fn probe(served: Vec<IpAddr>) -> LocalAddresses {
        LocalAddresses::new(served, Arc::new(Routes::open()))
    }

    /// Addresses for documentation (RFC 5737, RFC 3849), which no host has.
    const UNASSIGNED: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

    #[test]
    fn local_addresses_are_one_peer_and_each_remote_address_is_its_own() {
        let addresses = probe(vec![]);
        for local in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(addresses.peer(local.parse().unwrap()), Peer::Local, "{local}");
        }
        for remote in UNASSIGNED {
            assert_eq!(addresses.peer(remote), Peer::Remote(remote));
        }
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(addresses.peer(mapped), Peer::Remote("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn node_addresses_are_local_with_and_without_ip_nonlocal_bind() {
        if !netns::available() {
            return;
        }
        let (served, other) = (Ipv4Addr::new(169, 254, 170, 23), Ipv4Addr::new(198, 18, 0, 1));
        for value in ["0", "1"] {
            let node = Namespace::new().unwrap();
            node.add_address(served).unwrap();
            for family in ["ipv4", "ipv6"] {
                node.sysctl(&format!("{family}/ip_nonlocal_bind"), value).unwrap();
            }
            let (addresses, peers) = node
                .run(move || {
                    // The effect of this sysctl is tested.
                    assert_eq!(UdpSocket::bind((UNASSIGNED[0], 0)).is_ok(), value == "1");
                    let addresses = probe(vec![served.into()]);
                    let peers = [
                        Ipv4Addr::LOCALHOST.into(),
                        served.into(),
                        other.into(),
                        UNASSIGNED[0],
                        UNASSIGNED[1],
                    ]
                    .map(|address| addresses.peer(address));
                    (addresses, peers)
                })
                .join()
                .unwrap();
            let remote = [other.into(), UNASSIGNED[0], UNASSIGNED[1]].map(Peer::Remote);
            assert_eq!(peers[..2], [Peer::Local, Peer::Local], "{value}");
            assert_eq!(peers[2..], remote, "{value}");
            // An address that is added later.
            node.add_address(other).unwrap();
            assert_eq!(addresses.peer(other.into()), Peer::Local, "{value}");
        }
    }

    const OWN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
    const FEW_DESCRIPTORS: &str = "TEST_HAS_FEW_DESCRIPTORS";

    #[test]
    fn finds_local_peers_without_a_free_descriptor() {
        if !netns::available() {
            return;
        }
        let node = Namespace::new().unwrap();
        node.add_address(OWN).unwrap();
        // The limit applies to a process, so this is a separate one. It inherits the namespace.
        let child = node.run(|| {
            let script = "ulimit -n 64; exec \"$0\" --exact --ignored peer::tests::without_a_free_descriptor";
            std::process::Command::new("sh")
                .args(["-c", script])
                .arg(std::env::current_exe().unwrap())
                .env(FEW_DESCRIPTORS, "1")
                .output()
                .unwrap()
        });
        let output = child.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    #[ignore = "the test above runs it, in a process with few descriptors"]
    fn without_a_free_descriptor() {
        if std::env::var_os(FEW_DESCRIPTORS).is_none() {
            return;
        }
        let addresses = probe(vec![]);
        let mut open = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            open.push(file);
        }
        assert!(UdpSocket::bind((OWN, 0)).is_err(), "a descriptor is free");
        assert_eq!(addresses.peer(OWN.into()), Peer::Local);
        assert_eq!(addresses.peer(UNASSIGNED[0]), Peer::Remote(UNASSIGNED[0]));
    }
}
