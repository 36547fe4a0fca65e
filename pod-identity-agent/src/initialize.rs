//! `initialize`: adds the agent's addresses to the node, and removes them again.
//!
//! The addresses are on the link `pod-id-link0`: a dummy link, or a bridge without ports where the kernel has no dummy
//! links. Where it has neither, they are on `lo`. A link that exists is used as it is, so the addresses that AWS's agent
//! added stay in use.
//!
//! Two marks show what this program added, so that [`Action::Delete`] removes nothing else: the alias of the link, and
//! the protocol number of the host route of each address. The route is added before its address, so an interrupted run
//! leaves no address without a mark.

mod error;
mod node;

pub use error::InitializeError;

use std::net::IpAddr;

use self::node::{Address, Kind, Link, Node};

/// Name of the link, as AWS's agent names it.
pub const LINK: &str = "pod-id-link0";

/// The operation of [`run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Adds what is missing.
    Add,
    /// Reports what is missing, and changes nothing.
    Check,
    /// Removes what [`Action::Add`] added.
    Delete,
}

/// Runs `initialize` for these addresses. Returns the number of changes.
///
/// An IPv6 address is skipped with a warning if the node has no IPv6. [`Action::Delete`] removes every address with the
/// mark of this program, whether it is in `hosts` or not.
///
/// # Errors
/// [`InitializeError`] with the cause. With [`Action::Check`] also if something is missing.
pub async fn run(hosts: &[IpAddr], action: Action) -> Result<usize, InitializeError> {
    check_hosts(hosts)?;
    let node = Node::open()?;
    let changes = match action {
        Action::Add => add(&node, hosts, &Kind::ALL).await?,
        Action::Check => check(&node, hosts).await?,
        Action::Delete => delete(&node).await?,
    };
    if action != Action::Check && changes == 0 {
        tracing::info!("nothing changed");
    }
    Ok(changes)
}

fn check_hosts(hosts: &[IpAddr]) -> Result<(), InitializeError> {
    let unusable = |host: &&IpAddr| host.is_loopback() || host.is_unspecified() || host.is_multicast();
    match hosts.iter().find(unusable) {
        Some(host) => Err(InitializeError::Host(*host)),
        None if hosts.is_empty() => Err(InitializeError::NoHost),
        None => Ok(()),
    }
}

async fn add(node: &Node, hosts: &[IpAddr], kinds: &[Kind]) -> Result<usize, InitializeError> {
    let mut changes = 0;
    for host in usable(hosts) {
        let links = node.links().await?;
        let found = on_links(&node.addresses().await?, &links, host);
        if found.is_empty() {
            let (link, added) = device(node, kinds).await?;
            changes += added + add_address(node, host, &link).await?;
            continue;
        }
        for link in found {
            if link.is_up {
                tracing::info!(address = %host, device = link.name, "address already there");
            } else {
                node.set_up(&link).await?;
                tracing::info!(address = %host, device = link.name, "link of the address set up");
                changes += 1;
            }
        }
    }
    Ok(changes)
}

/// Adds the route, which is the mark, and then the address. Returns the number of changes.
async fn add_address(node: &Node, host: IpAddr, link: &Link) -> Result<usize, InitializeError> {
    node.add_route(host, link).await?;
    match node.add_address(host, link).await {
        Ok(()) => {
            tracing::info!(address = %host, device = link.name, "address added");
            Ok(1)
        }
        Err(error) if host.is_ipv6() && error.is_ipv6_disabled() => {
            // The kernel may have accepted the route.
            let _ = node.delete_route(host, link.index).await;
            let name = &link.name;
            tracing::warn!(
                address = %host, device = name,
                "address skipped: IPv6 is disabled on this link, so pods use the IPv4 address. To enable it, set \
                 net.ipv6.conf.{name}.disable_ipv6=0"
            );
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Returns the link for new addresses, and the number of changes.
async fn device(node: &Node, kinds: &[Kind]) -> Result<(Link, usize), InitializeError> {
    if let Some(link) = node.links().await?.into_iter().find(|link| link.name == LINK) {
        if link.is_up {
            return Ok((link, 0));
        }
        node.set_up(&link).await?;
        tracing::info!(device = LINK, "link set up");
        return Ok((link, 1));
    }
    if let Some((link, kind)) = node.add_link(LINK, kinds).await? {
        tracing::info!(device = LINK, kind = kind.as_str(), "link added");
        return Ok((link, 1));
    }
    tracing::warn!("the kernel has neither dummy links nor bridges: the addresses are added to lo");
    let mut links = node.links().await?.into_iter();
    let lo = links.find(|link| link.name == "lo").ok_or(InitializeError::NoLoopback)?;
    if lo.is_up {
        return Ok((lo, 0));
    }
    node.set_up(&lo).await?;
    tracing::info!(device = "lo", "link set up");
    Ok((lo, 1))
}

async fn check(node: &Node, hosts: &[IpAddr]) -> Result<usize, InitializeError> {
    let (addresses, links) = (node.addresses().await?, node.links().await?);
    let mut missing = Vec::new();
    for host in usable(hosts) {
        let found = on_links(&addresses, &links, host);
        if found.is_empty() {
            missing.push(format!("the node does not have the address {host}"));
        }
        for link in found {
            if link.is_up {
                tracing::info!(address = %host, device = link.name, "address is in place");
            } else {
                missing.push(format!("the link {} of the address {host} is down", link.name));
            }
        }
    }
    if missing.is_empty() { Ok(0) } else { Err(InitializeError::Missing(missing.join("; "))) }
}

async fn delete(node: &Node) -> Result<usize, InitializeError> {
    let links = node.links().await?;
    let name = |index| links.iter().find(|link| link.index == index).map_or("?", |link| link.name.as_str());
    let mut changes = 0;
    for (host, index) in node.marked_routes().await? {
        if node.delete_address(host, index).await? {
            tracing::info!(address = %host, device = name(index), "address removed");
        }
        node.delete_route(host, index).await?;
        changes += 1;
    }
    let rest = node.addresses().await?;
    for link in links.iter().filter(|link| link.is_ours) {
        let is_used = |address: &&Address| address.index == link.index && !address.is_automatic();
        match rest.iter().find(is_used) {
            Some(other) => tracing::warn!(
                device = link.name, address = %other.ip,
                "link not removed: it has an address that this program did not add"
            ),
            None => {
                node.delete_link(link).await?;
                tracing::info!(device = link.name, "link removed");
                changes += 1;
            }
        }
    }
    Ok(changes)
}

/// Returns the addresses without those whose family the node does not have, and logs a warning about each of these.
fn usable(hosts: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    hosts.iter().copied().filter(|host| {
        let usable = host.is_ipv4() || node::has_ipv6();
        if !usable {
            tracing::warn!(
                address = %host,
                "address skipped: the node has no IPv6 (net.ipv6.conf.default.disable_ipv6 is 1 or absent), so pods \
                 use the IPv4 address"
            );
        }
        usable
    })
}

/// Returns the links with this address.
fn on_links(addresses: &[Address], links: &[Link], host: IpAddr) -> Vec<Link> {
    let has = |link: &&Link| addresses.iter().any(|one| one.ip == host && one.index == link.index);
    links.iter().filter(has).cloned().collect()
}

#[cfg(test)]
mod tests {
    use testing::netns::{self, Namespace};

    use super::*;

    #[test]
    fn addresses_are_on_lo_where_the_kernel_has_no_suitable_link() {
        if !netns::available() {
            return;
        }
        let node = Namespace::new().unwrap();
        let inside = async {
            let hosts = ["169.254.170.23".parse().unwrap(), "fd00:ec2::23".parse().unwrap()];
            let node = Node::open().unwrap();
            let names = async || {
                let (addresses, links) = (node.addresses().await.unwrap(), node.links().await.unwrap());
                hosts.map(|host| {
                    on_links(&addresses, &links, host).into_iter().map(|link| link.name).collect::<Vec<_>>()
                })
            };
            assert_eq!(add(&node, &hosts, &[]).await.unwrap(), 2);
            assert_eq!(names().await, [["lo"], ["lo"]]);
            assert_eq!(add(&node, &hosts, &Kind::ALL).await.unwrap(), 0);
            assert_eq!(check(&node, &hosts).await.unwrap(), 0);
            assert_eq!(delete(&node).await.unwrap(), 2);
            assert_eq!(names().await, [[""; 0], []]);
            assert!(check(&node, &hosts).await.is_err());
        };
        let run =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(inside);
        node.run(run).join().unwrap();
    }
}
