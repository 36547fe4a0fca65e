//! Notifications of the kernel about links, addresses, routes and rules.

use super::{Addresses, Routes};

pub use kernel::{FollowError, Follower};

#[cfg(target_os = "linux")]
mod kernel {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
    use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
    use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
    use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
    use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
    use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
    use rtnetlink::{Handle, MulticastGroup};

    use super::super::addresses::OnNode;
    use super::{Addresses, Routes};

    const GROUPS: [MulticastGroup; 8] = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
        MulticastGroup::Nexthop,
    ];
    /// Pause before a new subscription.
    const PAUSE: Duration = Duration::from_secs(5);

    /// The state of the node's network cannot be read.
    #[derive(Debug, thiserror::Error)]
    #[error(
        "cannot follow the node's links, addresses and routes: {0}. Allow AF_NETLINK in the seccomp profile"
    )]
    pub struct FollowError(String);

    impl From<io::Error> for FollowError {
        fn from(error: io::Error) -> Self {
            Self(error.to_string())
        }
    }

    impl From<rtnetlink::Error> for FollowError {
        fn from(error: rtnetlink::Error) -> Self {
            Self(error.to_string())
        }
    }

    /// Follows the node's network, and keeps routes and addresses up to date.
    #[derive(Debug)]
    pub struct Follower {
        routes: Arc<Routes>,
        addresses: Addresses,
        subscription: Option<Subscription>,
    }

    impl Follower {
        /// Subscribes to notifications, and reads the present state.
        ///
        /// # Errors
        /// [`FollowError`] if the kernel refuses.
        pub async fn open(routes: Arc<Routes>, addresses: Addresses) -> Result<Self, FollowError> {
            let subscription = Some(Subscription::open(&routes, &addresses).await?);
            Ok(Self { routes, addresses, subscription })
        }

        /// Makes a follower that subscribes when it runs.
        pub fn later(routes: Arc<Routes>, addresses: Addresses) -> Self {
            Self { routes, addresses, subscription: None }
        }

        /// Follows for ever. While there are no notifications, routes are not cached.
        pub async fn run(self) {
            let Self { routes, addresses, mut subscription } = self;
            let mut is_reported = false;
            loop {
                let opened = match subscription.take() {
                    Some(opened) => Ok(opened),
                    None => Subscription::open(&routes, &addresses).await,
                };
                let error = match opened {
                    Ok(opened) => {
                        is_reported = false;
                        opened.follow(&routes, &addresses).await
                    }
                    Err(error) => error,
                };
                routes.stop_cache();
                if !is_reported {
                    tracing::warn!(%error, "changes of the node's network are not noticed");
                    is_reported = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    type Message = NetlinkMessage<RouteNetlinkMessage>;
    type Messages = std::pin::Pin<Box<dyn Stream<Item = Message> + Send>>;

    struct Subscription {
        handle: Handle,
        messages: Messages,
    }

    impl std::fmt::Debug for Subscription {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Subscription").finish_non_exhaustive()
        }
    }

    impl Subscription {
        async fn open(routes: &Routes, addresses: &Addresses) -> Result<Self, FollowError> {
            if !routes.is_open() {
                return Err(FollowError("there is no socket for lookups".to_owned()));
            }
            let (connection, handle, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
            // It ends when handle and messages are dropped.
            tokio::spawn(connection);
            let messages: Messages = Box::pin(messages.map(|(message, _)| message));
            routes.set_uplinks(uplinks(&handle).await?);
            routes.start_cache();
            read_addresses(&handle, routes, addresses).await?;
            Ok(Self { handle, messages })
        }

        /// Returns when the notifications end.
        async fn follow(self, routes: &Routes, addresses: &Addresses) -> FollowError {
            let Self { handle, mut messages } = self;
            let hosts = addresses.hosts();
            while let Some(first) = messages.next().await {
                let mut effect = Effect::default();
                effect.add(&first, &hosts, &routes.uplinks());
                while let Some(Some(next)) = messages.next().now_or_never() {
                    effect.add(&next, &hosts, &routes.uplinks());
                }
                routes.start_cache();
                if let Err(error) = effect.apply(&handle, routes, addresses).await {
                    return error;
                }
            }
            FollowError("the netlink connection ended".to_owned())
        }
    }

    /// The state that notifications may have changed. Reading it costs time in proportion to the node's routes, and pods
    /// that start and stop change routes and links all the time.
    #[derive(Debug, Default)]
    struct Effect {
        uplinks: bool,
        addresses: bool,
    }

    impl Effect {
        fn add(&mut self, message: &Message, hosts: &[IpAddr], uplinks: &[u32]) {
            use RouteNetlinkMessage as Kind;
            match &message.payload {
                NetlinkPayload::InnerMessage(Kind::NewRoute(route) | Kind::DelRoute(route)) => {
                    self.uplinks |= route.header.destination_prefix_length == 0;
                    // Some removals of an address are only visible as the removal of its local route.
                    self.addresses |=
                        route.header.kind == RouteType::Local && destination(route, hosts).is_some();
                }
                // A link that goes down loses its IPv4 routes without notifications.
                NetlinkPayload::InnerMessage(Kind::NewLink(link) | Kind::DelLink(link)) => {
                    self.uplinks |= uplinks.contains(&link.header.index);
                    self.addresses = true;
                }
                NetlinkPayload::InnerMessage(Kind::NewAddress(address) | Kind::DelAddress(address)) => {
                    self.uplinks |= uplinks.contains(&address.header.index);
                    self.addresses |= local(address).is_some_and(|ip| hosts.contains(&ip));
                }
                // Rules and next hops, which are rare, and lost notifications.
                _ => (self.uplinks, self.addresses) = (true, true),
            }
        }

        async fn apply(
            self,
            handle: &Handle,
            routes: &Routes,
            addresses: &Addresses,
        ) -> Result<(), FollowError> {
            if self.uplinks {
                let uplinks = uplinks(handle).await?;
                if uplinks != routes.uplinks() {
                    tracing::debug!(?uplinks, "default routes changed");
                    routes.set_uplinks(uplinks);
                }
            }
            if self.addresses {
                read_addresses(handle, routes, addresses).await?;
            }
            Ok(())
        }
    }

    /// Reads the devices of the default routes in the main table. Other tables are used by rules, and a lookup shows
    /// when it used a default route there.
    async fn uplinks(handle: &Handle) -> Result<Vec<u32>, FollowError> {
        let mut uplinks = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut all = RouteMessage::default();
            all.header.address_family = family;
            let mut routes = std::pin::pin!(handle.route().get(all).execute());
            while let Some(route) = routes.try_next().await? {
                let RouteHeader { destination_prefix_length: 0, table, kind: RouteType::Unicast, .. } =
                    route.header
                else {
                    continue;
                };
                if table != RouteHeader::RT_TABLE_MAIN {
                    continue;
                }
                for attribute in route.attributes {
                    match attribute {
                        RouteAttribute::Oif(index) => drop(uplinks.insert(index)),
                        RouteAttribute::MultiPath(hops) => {
                            uplinks.extend(hops.iter().map(|hop| hop.interface_index));
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(uplinks.into_iter().collect())
    }

    async fn read_addresses(
        handle: &Handle,
        routes: &Routes,
        addresses: &Addresses,
    ) -> Result<(), FollowError> {
        let hosts = addresses.hosts();
        let mut links = BTreeMap::<IpAddr, Vec<u32>>::new();
        let mut found = std::pin::pin!(handle.address().get().execute());
        while let Some(address) = found.try_next().await? {
            if let Some(ip) = local(&address).filter(|ip| hosts.contains(ip)) {
                links.entry(ip).or_default().push(address.header.index);
            }
        }
        for host in hosts {
            let mut devices = BTreeSet::new();
            for index in links.remove(&host).unwrap_or_default() {
                devices.insert(name(handle, index).await);
            }
            // An unspecified address stands for every address.
            let is_present = host.is_unspecified() || routes.is_local(host);
            addresses.update(host, OnNode { is_present, devices });
        }
        Ok(())
    }

    async fn name(handle: &Handle, index: u32) -> String {
        let link: Result<Option<LinkMessage>, _> =
            std::pin::pin!(handle.link().get().match_index(index).execute()).try_next().await;
        let attributes = link.ok().flatten().map(|link| link.attributes).unwrap_or_default();
        let name = attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        name.unwrap_or_else(|| index.to_string())
    }

    fn local(address: &AddressMessage) -> Option<IpAddr> {
        let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| address.attributes.iter().find_map(wanted);
        // IPv6 has no local address unless the link is point-to-point.
        of(|one| if let AddressAttribute::Local(ip) = one { Some(*ip) } else { None })
            .or_else(|| of(|one| if let AddressAttribute::Address(ip) = one { Some(*ip) } else { None }))
    }

    fn destination(route: &RouteMessage, hosts: &[IpAddr]) -> Option<IpAddr> {
        hosts.iter().copied().find(|host| {
            let wanted = RouteAttribute::Destination((*host).into());
            route.attributes.contains(&wanted)
        })
    }
}

/// Other systems run no pods.
#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::sync::Arc;

    use super::{Addresses, Routes};

    /// The state of the node's network cannot be read.
    #[derive(Debug, thiserror::Error)]
    #[error("cannot follow the node's network on this system")]
    pub struct FollowError;

    /// Follows nothing.
    #[derive(Debug)]
    pub struct Follower;

    impl Follower {
        /// Follows nothing.
        ///
        /// # Errors
        /// None.
        pub async fn open(_: Arc<Routes>, _: Addresses) -> Result<Self, FollowError> {
            Ok(Self)
        }

        /// Follows nothing.
        pub fn later(_: Arc<Routes>, _: Addresses) -> Self {
            Self
        }

        /// Waits for ever.
        pub async fn run(self) {
            std::future::pending().await
        }
    }
}
