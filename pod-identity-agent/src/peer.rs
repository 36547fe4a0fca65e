//! The peer of a network address. Each peer has its own limits.

use std::net::IpAddr;

use pod_identity_core::service::Peer;

/// The addresses of this machine. All of them are one peer, because a request of a hostNetwork pod may come from any of
/// them.
#[derive(Debug)]
pub struct LocalAddresses {
    served: Vec<IpAddr>,
    routes: Option<routes::Routes>,
}

impl LocalAddresses {
    /// Opens the netlink socket for routing lookups. `served` are the addresses that the agent serves on.
    ///
    /// If the socket cannot be opened, only loopback addresses and `served` are local. A request of a hostNetwork pod
    /// comes from an address in `served` unless the pod binds another one.
    pub fn probe(served: Vec<IpAddr>) -> Self {
        let routes = routes::Routes::open()
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    "addresses of this node are unknown: each address that a hostNetwork pod binds is a separate \
                     peer with its own limits"
                );
            })
            .ok();
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
        let has_local_route = || self.routes.as_ref().is_some_and(|routes| routes.is_local(address));
        address.is_loopback() || self.served.contains(&address) || has_local_route()
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

/// Lookups in the kernel's routing table over one open netlink socket. A lookup needs no new descriptor, so it works
/// without free descriptors.
#[cfg(target_os = "linux")]
mod routes {
    use std::io;
    use std::net::IpAddr;
    use std::os::fd::OwnedFd;
    use std::sync::{Mutex, PoisonError};

    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    };

    // Linux, `include/uapi/linux/{netlink,rtnetlink}.h`.
    const RTM_NEWROUTE: u16 = 24;
    const RTM_GETROUTE: u16 = 26;
    const NLM_F_REQUEST: u16 = 1;
    const RTA_DST: u16 = 1;
    const RTN_LOCAL: u8 = 2;
    /// The length of `nlmsghdr`, in bytes, and of `rtmsg`.
    const HEADER: usize = 16;
    const ROUTE: usize = 12;
    /// The offset of `rtm_type` in a response.
    const ROUTE_TYPE: usize = HEADER + 7;

    #[derive(Debug)]
    pub(super) struct Routes(Mutex<(OwnedFd, u32)>);

    impl Routes {
        pub(super) fn open() -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // NETLINK_ROUTE is protocol 0.
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            Ok(Self(Mutex::new((socket, 0))))
        }

        /// Whether the route to that address is local. An error of the kernel, for example a missing route, means
        /// that it is not.
        pub(super) fn is_local(&self, address: IpAddr) -> bool {
            let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (socket, sequence) = &mut *socket;
            *sequence = sequence.wrapping_add(1);
            let request = request(address, *sequence);
            let kernel = SocketAddrNetlink::new(0, 0);
            if sendto(&*socket, &request, SendFlags::empty(), &kernel).is_err() {
                return false;
            }
            // The kernel responds before `sendto` returns. A response to an older request may precede it.
            let mut answer = [0_u8; 1024];
            while let Ok((_, length)) = recv(&*socket, &mut answer[..], RecvFlags::empty()) {
                let answer = answer.get(..length).unwrap_or_default();
                if answer.get(8..12) == Some(&sequence.to_ne_bytes()) {
                    return answer.get(4..6) == Some(&RTM_NEWROUTE.to_ne_bytes())
                        && answer.get(ROUTE_TYPE) == Some(&RTN_LOCAL);
                }
            }
            false
        }
    }

    /// `nlmsghdr`, `rtmsg` and one attribute with the address.
    fn request(address: IpAddr, sequence: u32) -> Vec<u8> {
        let (family, octets) = match address {
            IpAddr::V4(address) => (AddressFamily::INET, address.octets().to_vec()),
            IpAddr::V6(address) => (AddressFamily::INET6, address.octets().to_vec()),
        };
        let bytes = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        let attribute = 4 + octets.len();
        let length = HEADER + ROUTE + attribute;
        let mut request = Vec::with_capacity(length);
        request.extend(u32::from(bytes(length)).to_ne_bytes());
        request.extend(RTM_GETROUTE.to_ne_bytes());
        request.extend(NLM_F_REQUEST.to_ne_bytes());
        request.extend(sequence.to_ne_bytes());
        request.extend([0; 4]); // the kernel fills in the port
        let family = bytes(usize::from(family.as_raw()));
        request.extend([family, bytes(octets.len() * 8)]);
        request.extend([0; ROUTE - 2]);
        request.extend(u16::from(bytes(attribute)).to_ne_bytes());
        request.extend(RTA_DST.to_ne_bytes());
        request.extend(octets);
        request
    }
}

/// Other systems run no hostNetwork pods.
#[cfg(not(target_os = "linux"))]
mod routes {
    use std::io;
    use std::net::IpAddr;

    #[derive(Debug)]
    pub(super) struct Routes;

    impl Routes {
        pub(super) fn open() -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) fn is_local(&self, _: IpAddr) -> bool {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    use testing::netns::{self, Namespace};

    use super::*;

    /// Addresses for documentation (RFC 5737, RFC 3849), which no host has.
    const UNASSIGNED: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

    #[test]
    fn local_addresses_are_one_peer_and_each_remote_address_is_its_own() {
        let addresses = LocalAddresses::probe(vec![]);
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
                    let addresses = LocalAddresses::probe(vec![served.into()]);
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
        let addresses = LocalAddresses::probe(vec![]);
        let mut open = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            open.push(file);
        }
        assert!(UdpSocket::bind((OWN, 0)).is_err(), "a descriptor is free");
        assert_eq!(addresses.peer(OWN.into()), Peer::Local);
        assert_eq!(addresses.peer(UNASSIGNED[0]), Peer::Remote(UNASSIGNED[0]));
    }
}
