//! Cached routes to peers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::route::{Route, RouteSocket};

/// Maximum number of cached routes. When the cache is full, it is emptied.
const MAX_CACHED: usize = 4096;

/// The routes to peers. They are cached while a [`Follower`](super::Follower) invalidates the cache when a route changes.
#[derive(Debug)]
pub struct Routes {
    socket: Option<RouteSocket>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None`: routes are not cached.
    cached: Option<HashMap<IpAddr, Route>>,
    /// The devices of the default routes in the main table.
    uplinks: Vec<u32>,
}

impl Routes {
    /// Opens the netlink socket for lookups. Without it every lookup finds no route, no peer is outside the node, and a
    /// warning is logged.
    pub fn open() -> Self {
        let socket = RouteSocket::open()
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    "addresses of this node are unknown: each address that a hostNetwork pod binds is a separate \
                     peer with its own limits"
                );
            })
            .ok();
        Self { socket, state: Mutex::default() }
    }

    /// Returns whether the address belongs to this machine.
    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        self.route(address.to_canonical()) == Route::Local
    }

    /// Returns whether lookups are possible.
    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns whether replies to this peer leave the node: by a default route, or by the device of one.
    ///
    /// A peer without a route is outside, because nothing shows that it is on the node. The device of an IPv6
    /// link-local peer is that of its connection.
    pub(crate) fn is_off_node(&self, peer: SocketAddr) -> bool {
        let device = match (peer, peer.ip().to_canonical()) {
            (SocketAddr::V6(peer), IpAddr::V6(ip)) if ip.is_unicast_link_local() => peer.scope_id(),
            (_, ip) if ip.is_loopback() || !self.is_open() => return false,
            (_, ip) => match self.route(ip) {
                Route::Local => return false,
                Route::None | Route::Device { is_default: true, .. } => return true,
                Route::Device { index, .. } => index,
            },
        };
        self.state().uplinks.contains(&device)
    }

    fn route(&self, address: IpAddr) -> Route {
        let Some(socket) = &self.socket else { return Route::None };
        let mut state = self.state();
        let Some(cached) = &mut state.cached else { return socket.lookup(address) };
        if let Some(route) = cached.get(&address) {
            return *route;
        }
        let route = socket.lookup(address);
        // A missing route may be a passing failure.
        if route != Route::None {
            if cached.len() >= MAX_CACHED {
                cached.clear();
            }
            cached.insert(address, route);
        }
        route
    }

    /// Starts the cache, or empties it because a route has changed.
    pub(super) fn start_cache(&self) {
        self.state().cached.get_or_insert_default().clear();
    }

    /// Stops the cache, because changes of routes are not noticed.
    pub(super) fn stop_cache(&self) {
        self.state().cached = None;
    }

    pub(super) fn uplinks(&self) -> Vec<u32> {
        self.state().uplinks.clone()
    }

    pub(super) fn set_uplinks(&self, uplinks: Vec<u32>) {
        self.state().uplinks = uplinks;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use testing::netns::{self, Namespace};

    use super::*;

    #[test]
    fn cache_is_bounded_and_emptied_by_a_change() {
        if !netns::available() {
            return;
        }
        let node = Namespace::new().unwrap();
        let routes = node
            .run(|| {
                let routes = Routes::open();
                routes.start_cache();
                // Every address of 127/8 has a local route.
                for number in 0..10_000_u32 {
                    let [_, b, c, d] = number.to_be_bytes();
                    assert!(routes.is_local(IpAddr::from([127, b, c, d])));
                }
                routes
            })
            .join()
            .unwrap();
        let cached = || routes.state().cached.as_ref().map(HashMap::len);
        assert!((1..=MAX_CACHED).contains(&cached().unwrap()));
        routes.start_cache();
        assert_eq!(cached(), Some(0));
        routes.stop_cache();
        assert_eq!(cached(), None);
    }
}
