//! Network namespaces: peers with addresses of their own, on one machine.
//!
//! They see nothing of the machine's network, nor it of them, so that tests may take any address and
//! run beside each other. They need Linux, root and `ip` (iproute2).

use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::left_out::{in_ci, say};

/// A network namespace, with its loopback interface up. It goes when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// Whether there can be namespaces. Where not, it says so in capitals.
///
/// # Panics
/// With `CI=true`, where there must be.
pub fn available() -> bool {
    let Err(reason) = Namespace::new() else { return true };
    assert!(!in_ci(), "network namespaces are needed under CI=true: {reason}");
    say(&format!(
        "\n*** A TEST IS LEFT OUT: it needs network namespaces, so root and iproute2: {reason} ***\n"
    ));
    false
}

impl Namespace {
    /// A new one.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pod-identity-{}-{number}", std::process::id());
        ip(&format!("netns add {name}\n"))?;
        let namespace = Self { name };
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Gives it an address of its own, beside those of its links.
    ///
    /// # Errors
    /// Where it cannot have it.
    pub fn add_address(&self, address: Ipv4Addr) -> io::Result<()> {
        self.ip(&format!("address add {address}/32 dev lo\n"))
    }

    /// Sets one of its own kernel parameters, by its path below `/proc/sys/net`.
    ///
    /// # Errors
    /// Where that cannot be written.
    ///
    /// # Panics
    /// Where the namespace cannot be entered.
    pub fn sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        let (path, value) = (format!("/proc/sys/net/{name}"), value.to_owned());
        let written = self.run(move || std::fs::write(path, value)).join();
        written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Connects it with a node of that address, by way of which it reaches everything else. The link
    /// has the network `x.y.z.0/24` of that address, and the last bytes from 2 to `1 + addresses` are
    /// this side's.
    ///
    /// # Errors
    /// Where the link cannot be made.
    pub fn connect(&self, node: &Namespace, node_address: Ipv4Addr, addresses: u8) -> io::Result<()> {
        let [a, b, c, _] = node_address.octets();
        let Self { name } = self;
        let node_name = &node.name;
        ip(&format!("link add eth-{c} netns {node_name} type veth peer name eth0 netns {name}\n"))?;
        node.ip(&format!("address add {node_address}/24 dev eth-{c}\nlink set eth-{c} up\n"))?;
        let own: String = (2..2 + u16::from(addresses))
            .map(|d| format!("address add {a}.{b}.{c}.{d}/24 dev eth0\n"))
            .collect();
        self.ip(&format!("{own}link set eth0 up\nroute add default via {node_address}\n"))
    }

    /// Runs something on a thread of its own in it: what that binds and connects to is there.
    pub fn run<T: Send + 'static>(&self, inside: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        within(format!("/run/netns/{}", self.name), inside)
    }

    fn ip(&self, commands: &str) -> io::Result<()> {
        run(&["-n", &self.name], commands)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns delete {}\n", self.name)) {
            eprintln!("a network namespace stays behind: {error}");
        }
    }
}

/// Runs something on a thread of its own in the network namespace of that path. Threads and processes that
/// it starts are there too.
pub(crate) fn within<T: Send + 'static>(
    path: String,
    inside: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || {
        let namespace = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        inside()
    })
}

fn ip(commands: &str) -> io::Result<()> {
    run(&[], commands)
}

/// Many commands at once: `ip` starts slowly.
fn run(arguments: &[&str], commands: &str) -> io::Result<()> {
    let mut command = Command::new("ip");
    let command = command.args(arguments).args(["-batch", "-"]);
    let mut ip = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    ip.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(commands.as_bytes()))?;
    let output = ip.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
