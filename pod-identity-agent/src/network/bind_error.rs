//! Why an address cannot be bound.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::capability::Denied;

/// An address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve credentials on {address}: {cause}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The cause.
    pub cause: BindCause,
}

/// Why an address cannot be bound.
#[derive(Debug)]
pub enum BindCause {
    /// The node does not have the address, or not this address family.
    AddressMissing,
    /// Another socket has the port.
    PortInUse(Option<Socket>),
    /// The process may not bind a port of this number.
    Denied(Denied),
    /// Another error of the kernel.
    Other(io::Error),
}

/// A listening socket of another program.
#[derive(Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its address.
    pub address: SocketAddr,
    /// The user of the program.
    pub uid: u32,
}

impl BindError {
    pub(super) fn new(address: SocketAddr, error: io::Error) -> Self {
        let cause = match error.kind() {
            ErrorKind::AddrNotAvailable => BindCause::AddressMissing,
            ErrorKind::AddrInUse => BindCause::PortInUse(listening(address)),
            ErrorKind::PermissionDenied => BindCause::Denied(Denied::of_this_process()),
            // Without IPv6 the kernel has no sockets of this family.
            _ if address.is_ipv6() && !std::path::Path::new("/proc/net/if_inet6").exists() => {
                BindCause::AddressMissing
            }
            _ => BindCause::Other(error),
        };
        Self { address, cause }
    }
}

impl BindCause {
    /// Returns whether the node lacks the address. It may appear later.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::AddressMissing)
    }
}

impl fmt::Display for BindCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressMissing => f.write_str(
                "this node does not have the address. Run eks-pod-identity-agent initialize, or name other addresses \
                 with --bind-hosts",
            ),
            Self::PortInUse(socket) => {
                f.write_str("the port is in use")?;
                if let Some(Socket { address, uid }) = socket {
                    write!(f, " by a program of user {uid} that listens on {address}")?;
                }
                f.write_str(". End that program (ss -ltnp shows it on the node), or choose another --port")
            }
            Self::Denied(denied) => write!(f, "{denied}"),
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

/// Finds the socket that listens on this port, on this address or on every address.
fn listening(wanted: SocketAddr) -> Option<Socket> {
    let table = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let sockets = [table("/proc/net/tcp"), table("/proc/net/tcp6")];
    let mut sockets = sockets.iter().flat_map(|table| table.lines().filter_map(socket));
    sockets.find(|socket| {
        let ip = socket.address.ip().to_canonical();
        socket.address.port() == wanted.port() && (ip == wanted.ip() || ip.is_unspecified())
    })
}

/// Parses a line of `/proc/net/tcp` or `/proc/net/tcp6`, if its socket listens (proc(5)). The words of an address are in
/// the machine's byte order.
fn socket(line: &str) -> Option<Socket> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let words: Option<Vec<[u8; 4]>> = (0..ip.len())
        .step_by(8)
        .map(|start| Some(u32::from_str_radix(ip.get(start..start + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let ip = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        _ => std::net::IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    let uid = fields.nth(3)?.parse().ok()?;
    Some(Socket { address: SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?), uid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_in_use_names_the_other_socket() {
        for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let other = std::net::TcpListener::bind(address).unwrap();
            let taken = other.local_addr().unwrap();
            let wanted = SocketAddr::new("127.0.0.1".parse().unwrap(), taken.port());
            let wanted = if taken.is_ipv6() { taken } else { wanted };
            let error = BindError::new(wanted, ErrorKind::AddrInUse.into()).to_string();
            if cfg!(target_os = "linux") {
                assert!(error.contains(&format!("listens on {taken}")), "{error}");
            }
            assert!(error.starts_with(&format!("cannot serve credentials on {wanted}: the port is in use")));
        }
    }

    #[test]
    fn ignores_lines_without_a_listening_socket() {
        for line in [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            "   0: 0100007F:0016 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 1",
            "   0: 0100007F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1",
            "   0: 010é07F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1",
            "",
        ] {
            assert_eq!(socket(line), None, "{line}");
        }
    }

    #[test]
    fn missing_address_and_missing_family_name_initialize() {
        let error = BindError::new("192.0.2.77:80".parse().unwrap(), ErrorKind::AddrNotAvailable.into());
        assert!(error.cause.is_missing());
        assert!(error.to_string().contains("eks-pod-identity-agent initialize"), "{error}");
    }
}
