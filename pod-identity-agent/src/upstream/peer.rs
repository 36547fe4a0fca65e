//! Whose budget a network address has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pod_identity_core::limit::Peer;

/// Addresses for documentation (RFC 5737, RFC 3849): no host has them.
const NOBODYS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The addresses of this machine: a hostNetwork pod's request may come from any of them.
#[derive(Debug)]
pub struct LocalAddresses {
    served: Vec<IpAddr>,
    v4: Family,
    v6: Family,
}

/// What binding an address of a family tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Only an address of this machine can be bound.
    OwnOnly,
    /// Any can: `net.ipv4.ip_nonlocal_bind` or its like for IPv6 is set, as where keepalived moves
    /// addresses between nodes (Linux, `Documentation/networking/ip-sysctl.rst`).
    Any,
}

impl LocalAddresses {
    /// Looks what this machine can bind; `served` are addresses that the agent serves on.
    ///
    /// Where any address can be bound, local are loopback and those served only: a hostNetwork pod's request
    /// to an address of its own machine comes from that very address, unless the pod chooses another.
    pub fn probe(served: Vec<IpAddr>) -> Self {
        let [v4, v6] = NOBODYS.map(|address| {
            if !can_bind(address) {
                return Family::OwnOnly;
            }
            let sysctl =
                if address.is_ipv4() { "net.ipv4.ip_nonlocal_bind" } else { "net.ipv6.ip_nonlocal_bind" };
            tracing::warn!(
                sysctl,
                "this node binds addresses that it does not have: hostNetwork pods that send from an address of \
                 their choice have a budget of their own for each"
            );
            Family::Any
        });
        Self { served, v4, v6 }
    }

    /// The peer at that address.
    pub(super) fn peer(&self, address: IpAddr) -> Peer {
        let address = address.to_canonical();
        if self.is_local(address) { Peer::Local } else { Peer::Remote(address) }
    }

    fn is_local(&self, address: IpAddr) -> bool {
        let family = if address.is_ipv4() { self.v4 } else { self.v6 };
        address.is_loopback()
            || self.served.contains(&address)
            || (family == Family::OwnOnly && can_bind(address))
    }
}

/// Binding sends nothing.
fn can_bind(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use testing::netns::{self, Namespace};

    use super::*;

    #[test]
    fn all_addresses_of_this_machine_are_one_peer_and_every_other_is_its_own() {
        let addresses = LocalAddresses::probe(vec![]);
        for local in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(addresses.peer(local.parse().unwrap()), Peer::Local, "{local}");
        }
        for remote in NOBODYS {
            assert_eq!(addresses.peer(remote), Peer::Remote(remote));
        }
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(addresses.peer(mapped), Peer::Remote("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn where_any_address_can_be_bound_only_those_that_are_served_on_are_local() {
        if !netns::available() {
            return;
        }
        let (served, other) = (Ipv4Addr::new(169, 254, 170, 23), Ipv4Addr::new(198, 18, 0, 1));
        for (value, others_peer) in [("0", Peer::Local), ("1", Peer::Remote(other.into()))] {
            let node = Namespace::new().unwrap();
            node.add_address(served).unwrap();
            node.add_address(other).unwrap();
            for family in ["ipv4", "ipv6"] {
                node.sysctl(&format!("{family}/ip_nonlocal_bind"), value).unwrap();
            }
            let told = node.run(move || {
                // What the sysctl does is what this is about.
                assert_eq!(NOBODYS.map(can_bind), [value == "1"; 2]);
                let addresses = LocalAddresses::probe(vec![served.into()]);
                let loopback = Ipv4Addr::LOCALHOST.into();
                [loopback, served.into(), other.into(), NOBODYS[0], NOBODYS[1]]
                    .map(|address| addresses.peer(address))
            });
            let [loopback, at_served, at_other, v4, v6] = told.join().unwrap();
            assert_eq!((loopback, at_served, at_other), (Peer::Local, Peer::Local, others_peer), "{value}");
            assert_eq!([v4, v6], NOBODYS.map(Peer::Remote), "{value}");
        }
    }
}
