//! Errors of `initialize`.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;

/// Why `initialize` failed.
#[derive(Debug, thiserror::Error)]
pub enum InitializeError {
    /// There is no netlink.
    #[error("cannot open a netlink socket: {0}. Allow AF_NETLINK in the container's seccomp profile")]
    Open(io::Error),
    /// The right is missing.
    #[error(
        "cannot {0}: operation not permitted. Add the capability NET_ADMIN to the container \
         (securityContext.capabilities.add), and start it in the node's network (hostNetwork: true)"
    )]
    NotPermitted(String),
    /// The kernel refuses an operation.
    #[error(
        "cannot {operation}: {error}. Find the cause in the kernel's log (dmesg), or add the addresses by hand"
    )]
    Kernel {
        /// The operation, for example "add the address 169.254.170.23 to lo".
        operation: String,
        /// The kernel's error.
        error: io::Error,
    },
    /// The node has no loopback link.
    #[error(
        "the network namespace has no link lo: start the container in the node's network (hostNetwork: true)"
    )]
    NoLoopback,
    /// `--check` found something missing.
    #[error("{0}: run eks-pod-identity-agent initialize")]
    Missing(String),
    /// The address cannot be added to a link.
    #[error("--bind-hosts {0} is a loopback, unspecified or multicast address: initialize cannot add it")]
    Host(IpAddr),
    /// The list of addresses is empty.
    #[error("--bind-hosts is empty: give at least one address")]
    NoHost,
}

impl InitializeError {
    pub(super) fn new(operation: String, error: &rtnetlink::Error) -> Self {
        let error = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
            return Self::NotPermitted(operation);
        }
        Self::Kernel { operation, error }
    }

    /// Returns whether the kernel answered with this error.
    pub(super) fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Kernel { error, .. } if error.raw_os_error() == Some(errno.raw_os_error()))
    }

    /// Returns whether IPv6 is disabled, for one link or in the kernel.
    pub(super) fn is_ipv6_disabled(&self) -> bool {
        [Errno::ACCESS, Errno::AFNOSUPPORT, Errno::OPNOTSUPP].into_iter().any(|errno| self.is(errno))
    }
}
