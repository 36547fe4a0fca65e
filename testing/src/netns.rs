//! Network namespaces: peers with addresses of their own, on one machine.
//!
//! A namespace is isolated from the machine's network, so tests can use any address and run concurrently. Namespaces need
//! Linux, root and `ip` (iproute2).

use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::skip::{in_ci, print_past_harness};

/// A network namespace with its loopback interface up. It is deleted when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// Returns whether namespaces can be created. If not, prints a notice on standard error, and the test must return early.
///
/// # Panics
/// If namespaces cannot be created under `CI=true`.
pub fn available() -> bool {
    let Err(reason) = Namespace::new() else { return true };
    assert!(!in_ci(), "network namespaces are required under CI=true: {reason}");
    print_past_harness(&format!(
        "\n*** TEST SKIPPED: network namespaces need root and iproute2: {reason} ***\n"
    ));
    false
}

impl Namespace {
    /// Creates a namespace.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pod-identity-{}-{number}", std::process::id());
        ip(&format!("netns add {name}\n"))?;
        let namespace = Self { name };
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Adds an address to the loopback interface.
    ///
    /// # Errors
    /// If the address cannot be added.
    pub fn add_address(&self, address: Ipv4Addr) -> io::Result<()> {
        self.ip(&format!("address add {address}/32 dev lo\n"))
    }

    /// Sets a kernel parameter of the namespace. `name` is the path below `/proc/sys/net`.
    ///
    /// # Errors
    /// If the parameter cannot be written.
    ///
    /// # Panics
    /// If the namespace cannot be entered.
    pub fn sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        let (path, value) = (format!("/proc/sys/net/{name}"), value.to_owned());
        let written = self.run(move || std::fs::write(path, value)).join();
        written.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Connects this namespace to a node, and sets the default route through the node. The link has the network `x.y.z.0/24`
    /// of the node's address. This side gets the host numbers from 2 to `1 + addresses`.
    ///
    /// # Errors
    /// If the link cannot be created.
    pub fn connect(&self, node: &Namespace, node_address: Ipv4Addr, addresses: u8) -> io::Result<()> {
        let [a, b, c, _] = node_address.octets();
        let Self { name } = self;
        let node_name = &node.name;
        ip(&format!("link add eth-{c} netns {node_name} type veth peer name eth0 netns {name}\n"))?;
        node.ip(&format!("address add {node_address}/24 dev eth-{c}\nlink set eth-{c} up\n"))?;
        let own_addresses: String = (2..2 + u16::from(addresses))
            .map(|d| format!("address add {a}.{b}.{c}.{d}/24 dev eth0\n"))
            .collect();
        self.ip(&format!("{own_addresses}link set eth0 up\nroute add default via {node_address}\n"))
    }

    /// Connects this namespace to another one by a veth pair. `own` and `other_end` are the links' names, which are up
    /// and without addresses.
    ///
    /// # Errors
    /// If the link cannot be created.
    pub fn link(&self, own: &str, other: &Namespace, other_end: &str) -> io::Result<()> {
        let (name, other_name) = (&self.name, &other.name);
        ip(&format!("link add {own} netns {name} type veth peer name {other_end} netns {other_name}\n"))?;
        self.ip(&format!("link set {own} up\n"))?;
        other.ip(&format!("link set {other_end} up\n"))
    }

    /// Runs a function inside the namespace, on a new thread.
    pub fn run<T: Send + 'static>(&self, inside: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        run_in_namespace(format!("/run/netns/{}", self.name), inside)
    }

    /// Runs commands of `ip`, one per line, for example `link set eth0 down`.
    ///
    /// # Errors
    /// If a command fails.
    pub fn ip(&self, commands: &str) -> io::Result<()> {
        run(&["-n", &self.name], commands)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns delete {}\n", self.name)) {
            eprintln!("network namespace was not deleted: {error}");
        }
    }
}

/// Runs a function on a new thread inside the network namespace of this path. Threads and processes that the function
/// starts are inside the namespace too.
pub(crate) fn run_in_namespace<T: Send + 'static>(
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

/// Runs several commands with one `ip` process, because `ip` starts slowly.
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
