//! Whose budget a network address has.

use std::net::IpAddr;

use pod_identity_core::limit::Peer;

/// The peer at that address: a hostNetwork pod's request may come from any address of this machine.
pub(super) fn peer(address: IpAddr) -> Peer {
    let address = address.to_canonical();
    if is_local(address) { Peer::Local } else { Peer::Remote(address) }
}

/// Whether an address is this machine's. Only such an address can be bound, and binding it sends nothing.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_this_machine_are_one_peer_and_every_other_is_its_own() {
        for local in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(peer(local.parse().unwrap()), Peer::Local, "{local}");
        }
        // 192.0.2.0/24 and 2001:db8::/32 are for documentation: no host has them.
        for remote in ["192.0.2.1", "2001:db8::1"] {
            let address = remote.parse().unwrap();
            assert_eq!(peer(address), Peer::Remote(address));
        }
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(peer(mapped), Peer::Remote("192.0.2.1".parse().unwrap()));
    }
}
