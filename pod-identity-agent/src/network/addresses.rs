//! The state of the addresses that the agent serves on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pod_identity_runtime::metrics::register_gauges;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::Notify;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabel {
    address: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeLabel {
    change: &'static str,
}

/// Changes of an address on the node.
const CHANGES: [&str; 3] = ["disappeared", "returned", "moved"];

/// The state of the configured addresses. Clones share it.
#[derive(Debug, Clone)]
pub struct Addresses(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<BTreeMap<IpAddr, State>>,
    changes: Family<ChangeLabel, Counter>,
    appeared: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// `None`: not known yet.
    on_node: Option<OnNode>,
    has_listener: bool,
}

/// What the node says about an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OnNode {
    /// Whether the kernel delivers packets to it.
    pub(super) is_present: bool,
    /// The links that have it.
    pub(super) devices: BTreeSet<String>,
}

impl Addresses {
    /// Makes the state of these addresses, which nothing is known about.
    pub fn new(hosts: impl IntoIterator<Item = IpAddr>) -> Self {
        let state = hosts.into_iter().map(|host| (host, State::default())).collect();
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changes: Family::default(),
            appeared: Notify::new(),
        }))
    }

    /// Registers `pod_identity_agent_address` and `pod_identity_agent_address_changes_total`.
    pub fn register(&self, registry: &mut Registry) {
        let addresses = self.clone();
        register_gauges(
            registry,
            "pod_identity_agent_address",
            "1 while the node has the address and the agent listens on it, else 0",
            move || {
                let series = |(host, state): (&IpAddr, &State)| {
                    let is_present = state.on_node.as_ref().is_none_or(|on_node| on_node.is_present);
                    let served = u64::from(is_present && state.has_listener);
                    (AddressLabel { address: host.to_string() }, served)
                };
                addresses.state().iter().map(series).collect()
            },
        );
        for change in CHANGES {
            drop(self.0.changes.get_or_create(&ChangeLabel { change }));
        }
        registry.register(
            "pod_identity_agent_address_changes",
            "Changes of the agent's addresses on the node: disappeared, returned, moved",
            self.0.changes.clone(),
        );
    }

    /// Records that the agent listens on an address.
    pub(super) fn listens(&self, host: IpAddr) {
        if let Some(state) = self.state().get_mut(&host) {
            state.has_listener = true;
        }
    }

    /// Waits until an address may have appeared.
    pub(super) async fn appeared(&self) {
        self.0.appeared.notified().await;
    }

    /// Returns the addresses.
    pub(super) fn hosts(&self) -> Vec<IpAddr> {
        self.state().keys().copied().collect()
    }

    /// Updates the state of an address. Logs and counts a change.
    pub(super) fn update(&self, host: IpAddr, now: OnNode) {
        let earlier = match self.state().get_mut(&host) {
            Some(state) => state.on_node.replace(now.clone()),
            None => return,
        };
        let list = |on_node: &OnNode| on_node.devices.iter().cloned().collect::<Vec<_>>().join(",");
        match earlier {
            Some(earlier) if earlier.is_present && !now.is_present => {
                self.count("disappeared");
                tracing::error!(
                    address = %host, device = list(&earlier),
                    "address disappeared from the node: pods cannot reach the agent on it. Run \
                     eks-pod-identity-agent initialize, and find the program that removed it"
                );
            }
            Some(earlier) if !earlier.is_present && now.is_present => {
                self.count("returned");
                tracing::info!(address = %host, device = list(&now), "address appeared on the node");
            }
            Some(earlier) if earlier.is_present && earlier.devices != now.devices => {
                self.count("moved");
                tracing::warn!(
                    address = %host, from = list(&earlier), to = list(&now),
                    "address moved to another link: check that the agent's own node still has it"
                );
            }
            _ => {}
        }
        if now.is_present {
            self.0.appeared.notify_one();
        }
    }

    fn count(&self, change: &'static str) {
        self.0.changes.get_or_create(&ChangeLabel { change }).inc();
    }

    fn state(&self) -> MutexGuard<'_, BTreeMap<IpAddr, State>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(devices: &[&str]) -> OnNode {
        OnNode { is_present: !devices.is_empty(), devices: devices.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn counts_each_change_once_and_shows_whether_an_address_is_served() {
        let host: IpAddr = "169.254.170.23".parse().unwrap();
        let (addresses, mut registry) = (Addresses::new([host]), Registry::default());
        addresses.register(&mut registry);
        let page = || {
            let mut page = String::new();
            prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
            page
        };
        let is_served = |value: u8| page().contains(&format!("address{{address=\"{host}\"}} {value}\n"));
        assert!(is_served(0), "{}", page());
        addresses.listens(host);
        assert!(is_served(1), "nothing is known about the node");
        for (now, served, change, count) in [
            (on(&["lo"]), 1, "returned", 0),
            (on(&[]), 0, "disappeared", 1),
            (on(&[]), 0, "disappeared", 1),
            (on(&["lo"]), 1, "returned", 1),
            (on(&["lo", "eth0"]), 1, "moved", 1),
            (on(&["lo", "eth0"]), 1, "moved", 1),
        ] {
            addresses.update(host, now);
            assert!(is_served(served), "{}", page());
            let line = format!("changes_total{{change=\"{change}\"}} {count}\n");
            assert!(page().contains(&line), "{line}{}", page());
        }
    }
}
