//! Links, addresses and routes of the node, by netlink.

use std::net::IpAddr;
use std::path::Path;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkBridge, LinkDummy, LinkUnspec};
use rustix::io::Errno;

use super::InitializeError;

/// The alias of a link that this program added (`ip link show` prints it).
const ALIAS: &str = "added by eks-pod-identity-agent initialize";
/// The protocol number of a route that this program added. Neither the kernel nor iproute2 assigns it.
const MARK: RouteProtocol = RouteProtocol::Other(170);

/// A kind of links without a way out of the node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Dummy,
    Bridge,
}

impl Kind {
    /// Every kind, the preferred one first.
    pub(super) const ALL: [Self; 2] = [Self::Dummy, Self::Bridge];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Dummy => "dummy",
            Self::Bridge => "bridge",
        }
    }

    fn message(self, name: &str) -> LinkMessage {
        match self {
            Self::Dummy => LinkDummy::new(name).up().build(),
            Self::Bridge => LinkBridge::new(name).up().build(),
        }
    }
}

/// A link of the node.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_up: bool,
    /// Whether this program added it.
    pub(super) is_ours: bool,
}

/// An address of a link.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) ip: IpAddr,
    pub(super) index: u32,
}

impl Address {
    /// Whether the kernel added it without a request: an IPv6 link-local address.
    pub(super) fn is_automatic(&self) -> bool {
        matches!(self.ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
    }
}

/// The node's network.
#[derive(Debug)]
pub(super) struct Node(Handle);

impl Node {
    pub(super) fn open() -> Result<Self, InitializeError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(InitializeError::Open)?;
        // It ends when the handle is dropped.
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    pub(super) async fn links(&self) -> Result<Vec<Link>, InitializeError> {
        let links: Result<Vec<LinkMessage>, _> = self.0.link().get().execute().try_collect().await;
        let links = links.map_err(failed("list the links"))?;
        Ok(links.into_iter().map(link).collect())
    }

    pub(super) async fn addresses(&self) -> Result<Vec<Address>, InitializeError> {
        let addresses: Result<Vec<AddressMessage>, _> = self.0.address().get().execute().try_collect().await;
        let addresses = addresses.map_err(failed("list the addresses"))?;
        Ok(addresses.iter().filter_map(address).collect())
    }

    /// Adds a link that is up, with the first of these kinds that the kernel has. Returns it with its kind, or `None` if
    /// the kernel has none of them.
    pub(super) async fn add_link(
        &self,
        name: &str,
        kinds: &[Kind],
    ) -> Result<Option<(Link, Kind)>, InitializeError> {
        for kind in kinds {
            let operation = format!("add the {} link {name}", kind.as_str());
            match self.0.link().add(kind.message(name)).execute().await.map_err(failed(operation)) {
                Err(error) if error.is(Errno::OPNOTSUPP) => continue,
                // Another process has added it meanwhile. The mark says who, so it must not be set here.
                Err(error) if error.is(Errno::EXIST) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let alias = LinkUnspec::new_with_name(name).alias(ALIAS).build();
                    let operation = format!("set the alias of the link {name}");
                    self.0.link().set(alias).execute().await.map_err(failed(operation))?;
                }
            }
            if let Some(link) = self.links().await?.into_iter().find(|link| link.name == name) {
                return Ok(Some((link, *kind)));
            }
        }
        Ok(None)
    }

    pub(super) async fn set_up(&self, link: &Link) -> Result<(), InitializeError> {
        let up = LinkUnspec::new_with_index(link.index).up().build();
        let operation = format!("set up the link {}", link.name);
        self.0.link().set(up).execute().await.map_err(failed(operation))
    }

    pub(super) async fn delete_link(&self, link: &Link) -> Result<(), InitializeError> {
        let operation = format!("remove the link {}", link.name);
        self.0.link().del(link.index).execute().await.map_err(failed(operation))
    }

    /// Adds a host address. An IPv6 address is usable at once, because duplicate address detection is off, and the
    /// kernel adds no route of its own.
    pub(super) async fn add_address(&self, ip: IpAddr, link: &Link) -> Result<(), InitializeError> {
        let mut request = self.0.address().add(link.index, ip, prefix(ip));
        if ip.is_ipv6() {
            let message = request.message_mut();
            message.header.flags = AddressHeaderFlags::Nodad;
            let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        let operation = format!("add the address {ip} to {}", link.name);
        ignore(Errno::EXIST, request.execute().await.map_err(failed(operation))).map(drop)
    }

    /// Removes a host address. Returns whether it was there.
    pub(super) async fn delete_address(&self, ip: IpAddr, index: u32) -> Result<bool, InitializeError> {
        let addresses: Result<Vec<AddressMessage>, _> = self.0.address().get().execute().try_collect().await;
        let addresses = addresses.map_err(failed("list the addresses"))?;
        let is_it =
            |message: &AddressMessage| address(message).is_some_and(|one| one.ip == ip && one.index == index);
        let Some(message) = addresses.into_iter().find(is_it) else { return Ok(false) };
        let operation = format!("remove the address {ip}");
        let removed = self.0.address().del(message).execute().await.map_err(failed(operation));
        ignore(Errno::ADDRNOTAVAIL, removed)
    }

    /// Adds the host route with the mark.
    pub(super) async fn add_route(&self, ip: IpAddr, link: &Link) -> Result<(), InitializeError> {
        let operation = format!("add the route to {ip} by {}", link.name);
        let added = self.0.route().add(host_route(ip, link.index)).execute().await.map_err(failed(operation));
        match ignore(Errno::EXIST, added) {
            // The address itself reports it.
            Err(error) if ip.is_ipv6() && error.is_ipv6_disabled() => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn delete_route(&self, ip: IpAddr, index: u32) -> Result<(), InitializeError> {
        let operation = format!("remove the route to {ip}");
        let removed = self.0.route().del(host_route(ip, index)).execute().await.map_err(failed(operation));
        ignore(Errno::SRCH, removed).map(drop)
    }

    /// Returns destination and link of the routes with the mark.
    pub(super) async fn marked_routes(&self) -> Result<Vec<(IpAddr, u32)>, InitializeError> {
        let mut marked = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut filter = RouteMessage::default();
            filter.header.address_family = family;
            let routes: Result<Vec<RouteMessage>, _> =
                self.0.route().get(filter).execute().try_collect().await;
            let routes = routes.map_err(failed("list the routes"))?;
            marked
                .extend(routes.iter().filter(|route| route.header.protocol == MARK).filter_map(destination));
        }
        Ok(marked)
    }
}

/// Whether new links of the node get IPv6.
pub(super) fn has_ipv6() -> bool {
    let disabled = Path::new("/proc/sys/net/ipv6/conf/default/disable_ipv6");
    std::fs::read_to_string(disabled).is_ok_and(|value| value.trim() == "0")
}

fn failed(operation: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> InitializeError {
    move |error| InitializeError::new(operation.into(), &error)
}

/// Turns one error of the kernel into `false`: the wanted state was there already.
fn ignore(errno: Errno, result: Result<(), InitializeError>) -> Result<bool, InitializeError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.is(errno) => Ok(false),
        Err(error) => Err(error),
    }
}

fn prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn host_route(ip: IpAddr, index: u32) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    route.header.destination_prefix_length = prefix(ip);
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = MARK;
    route.header.scope = if ip.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![RouteAttribute::Destination(ip.into()), RouteAttribute::Oif(index)];
    route
}

fn destination(route: &RouteMessage) -> Option<(IpAddr, u32)> {
    let (mut ip, mut index) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => ip = Some(IpAddr::V4(*address)),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => ip = Some(IpAddr::V6(*address)),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            _ => {}
        }
    }
    ip.zip(index)
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        is_up: message.header.flags.contains(LinkFlags::Up),
        is_ours: false,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::IfAlias(alias) => link.is_ours = alias == ALIAS,
            _ => {}
        }
    }
    link
}

fn address(message: &AddressMessage) -> Option<Address> {
    // The address of a point-to-point link is that of its peer, and the local one is separate.
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = of(|one| if let AddressAttribute::Local(ip) = one { Some(*ip) } else { None });
    let other = of(|one| if let AddressAttribute::Address(ip) = one { Some(*ip) } else { None });
    Some(Address { ip: local.or(other)?, index: message.header.index })
}
