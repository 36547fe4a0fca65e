//! One lookup in the kernel's routing tables.

/// The route to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// The address belongs to this machine.
    Local,
    /// Packets leave by a device.
    Device {
        /// Its index.
        index: u32,
        /// Whether this is a default route.
        is_default: bool,
    },
    /// There is no route, or the lookup failed.
    None,
}

pub(super) use kernel::RouteSocket;

/// An open netlink socket. A lookup needs no new descriptor, so it works without free descriptors.
#[cfg(target_os = "linux")]
mod kernel {
    use std::io;
    use std::net::IpAddr;
    use std::sync::{Mutex, PoisonError};

    use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
    use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteType};
    use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
    use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

    use super::Route;

    #[derive(Debug)]
    pub(in crate::network) struct RouteSocket(Mutex<Open>);

    #[derive(Debug)]
    struct Open {
        socket: Socket,
        sequence: u32,
    }

    impl RouteSocket {
        pub(in crate::network) fn open() -> io::Result<Self> {
            let socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Self(Mutex::new(Open { socket, sequence: 0 })))
        }

        /// Returns the route to an address. It takes some microseconds and never waits.
        pub(in crate::network) fn lookup(&self, address: IpAddr) -> Route {
            let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            open.sequence = open.sequence.wrapping_add(1);
            let Open { socket, sequence } = &*open;
            if socket.send(&request(address, *sequence), 0).is_err() {
                return Route::None;
            }
            // The kernel responds before `send` returns. A response to an older request may precede it.
            let mut response = Vec::with_capacity(4096);
            while socket.recv(&mut response, 0).is_ok() {
                match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&response) {
                    Ok(message) if message.header.sequence_number == *sequence => {
                        return match message.payload {
                            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(found)) => {
                                route(&found)
                            }
                            _ => Route::None,
                        };
                    }
                    _ => response.clear(),
                }
            }
            Route::None
        }
    }

    fn request(address: IpAddr, sequence: u32) -> Vec<u8> {
        let mut route = RouteMessage::default();
        let (family, length) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        route.header.address_family = family;
        route.header.destination_prefix_length = length;
        // The response is the entry of the table, with its prefix length.
        route.header.flags = RouteFlags::FibMatch;
        route.attributes.push(RouteAttribute::Destination(address.into()));
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(route));
        message.header.flags = NLM_F_REQUEST;
        message.header.sequence_number = sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn route(found: &RouteMessage) -> Route {
        if found.header.kind == RouteType::Local {
            return Route::Local;
        }
        let is_default = found.header.destination_prefix_length == 0;
        let index = found.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            RouteAttribute::MultiPath(hops) => hops.first().map(|hop| hop.interface_index),
            _ => None,
        });
        index.map_or(Route::None, |index| Route::Device { index, is_default })
    }
}

/// Other systems run no pods.
#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::io;
    use std::net::IpAddr;

    use super::Route;

    #[derive(Debug)]
    pub(in crate::network) struct RouteSocket;

    impl RouteSocket {
        pub(in crate::network) fn open() -> io::Result<Self> {
            Ok(Self)
        }

        pub(in crate::network) fn lookup(&self, _: IpAddr) -> Route {
            Route::None
        }
    }
}
