//! A real Kubernetes node for tests: the control plane of [`cluster`](crate::cluster), and the controller manager, scheduler,
//! kubelet, containerd, kube-proxy (nftables) and CoreDNS.
//!
//! [`Node::shared`] starts one node for the whole test binary, in namespaces of its own. It ends with the process, even if
//! the process is killed, and nothing of it remains on the machine. A [`Node`] has all functions of a [`Cluster`].
//!
//! ```no_run
//! # use testing::node::Node;
//! let Some(node) = Node::shared() else { return };
//! let pod = node.host_pod("shop", "cart", "default", &["getent", "hosts", "kubernetes.default.svc"]);
//! let output = node.run_pod(&pod);
//! ```
//!
//! - The node needs Linux and root, and Debian's packages containerd, runc, containernetworking-plugins, busybox-static and
//!   nftables. Without them, tests are skipped.
//! - Pods have an IPv4 and an IPv6 address. The node has no link to other networks.
//! - There is no registry. Tests import images ([`Node::import_image`], [`Node::make_image`]), or run the machine's programs
//!   in a pod ([`Node::host_pod`]).
//! - Namespaces have the service account `default`, because controllers run.
//! - The issuer of service account tokens is [`ISSUER`].

mod image; // images of local files
mod pods; // pods of a test: specifications, waiting, diagnosis

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::json;

use crate::cluster::{API_ADDRESS, Cluster, SERVICE_ADDRESS, SOURCES, files, programs};
use crate::install::{self, Unavailable};
use crate::skip::or_skip;
pub use image::BUSYBOX;
pub use pods::mount;

/// The node's IPv4 address. Pods, and programs of the test ([`Node::network_command`]), reach each other by it.
pub const ADDRESS: Ipv4Addr = API_ADDRESS;

/// The node's IPv6 address.
pub const IPV6_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, 1);

/// The issuer of service account tokens, as kubeadm sets it.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

const POD_RANGES: &str = "10.244.0.0/24,fd00:10:244::/64"; // as in cluster/node/cni.json
const IPV6_SERVICE_RANGE: &str = "fd00:10:96::/112";

/// A running node. It ends when this is dropped, or when the process ends.
#[derive(Debug)]
pub struct Node {
    control_plane: Cluster,
    /// `PATH` with the programs of Kubernetes.
    path: OsString,
}

impl Deref for Node {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.control_plane
    }
}

impl Node {
    /// Returns the shared node of this process. The first call starts it. If that is not possible, prints a notice on
    /// standard error and returns `None`.
    ///
    /// # Panics
    /// If it cannot be started under `CI=true`.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Node>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Starts a node, and waits until it is ready and DNS works. If it is unavailable, prints a notice on standard error and
    /// returns `None`.
    ///
    /// # Panics
    /// If it is not ready in time, or is unavailable under `CI=true`.
    pub fn start() -> Option<Self> {
        Self::start_with(ISSUER, &[])
    }

    /// Starts a node with this issuer of service account tokens, and additional flags of kube-apiserver, such as
    /// `--service-account-jwks-uri`.
    ///
    /// # Panics
    /// Like [`Node::start`].
    pub fn start_with(issuer: &str, flags: &[&str]) -> Option<Self> {
        let node = or_skip("Kubernetes node", Self::try_start(issuer, flags))?;
        node.wait_ready();
        Some(node)
    }

    fn try_start(issuer: &str, flags: &[&str]) -> Result<Self, Unavailable> {
        if !rustix::process::geteuid().is_root() {
            return Err(Unavailable::because("namespaces need root"));
        }
        let cni_plugins = debian_programs()?;
        let tools = install::tools();
        for path in [&tools, Path::new(SOURCES), &std::env::temp_dir()] {
            // node-init.sh mounts empty file systems there.
            if ["/run", "/var/lib", "/var/log"].iter().any(|hidden| path.starts_with(hidden)) {
                let path = path.display();
                return Err(Unavailable::because(format!(
                    "{path} is invisible in the node: set CARGO_TARGET_DIR and TMPDIR to directories outside /run, /var/lib and /var/log"
                )));
            }
        }
        let path = programs::path(programs::CONTROL_PLANE.iter().chain(programs::NODE))?;
        let directory = files::write();
        image::write_all(&directory.join("images"), &path).inspect_err(|_| {
            let _ = std::fs::remove_dir_all(&directory);
        })?;
        let mut script = Command::new("/bin/sh");
        script.arg(Path::new(SOURCES).join("node.sh")).arg(&directory);
        script.args([ADDRESS.to_string(), IPV6_ADDRESS.to_string()]);
        script.args([&format!("{SERVICE_ADDRESS}/24,{IPV6_SERVICE_RANGE}"), POD_RANGES]);
        script.arg(cni_plugins).arg(issuer);
        script.args(["--kubelet-client-certificate", "kubelet-client.crt"]);
        script.args(["--kubelet-client-key", "kubelet-client.key"]);
        script.args(["--kubelet-preferred-address-types", "InternalIP"]);
        script.args(flags).env("PATH", &path);
        Ok(Self { control_plane: Cluster::run_script(&mut script, directory)?, path })
    }

    /// Starts the programs that need the API server, and waits until DNS works.
    fn wait_ready(&self) {
        self.control_plane.command("start-node");
        let addons = std::fs::read_to_string(Path::new(SOURCES).join("node/addons.yaml")).expect("a file");
        self.apply(&addons);
        self.wait_for("kube-system", "deployment/coredns", "condition=Available");
        self.wait_for("default", "serviceaccount/default", "create");
    }

    /// Returns the name of the cgroup of all pods, below `/sys/fs/cgroup` or each of its hierarchies.
    pub fn cgroup(&self) -> String {
        format!("pod-identity-node-{}", self.control_plane.supervisor())
    }

    /// Returns the path of kubectl.
    ///
    /// # Panics
    /// If another process has deleted it.
    pub fn kubectl_program(&self) -> PathBuf {
        find(&self.path, "kubectl").expect("kubectl is installed")
    }

    /// Runs kubectl with all rights, and returns its output. kubectl runs on the machine, in the node's network.
    ///
    /// # Errors
    /// kubectl's standard error, if it fails.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut kubectl = self.network_command(self.kubectl_program());
        kubectl.args(arguments).env("HOME", self.directory()); // the directory of its cache
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = kubectl.spawn().and_then(|mut kubectl| {
            // A failed kubectl does not read its input.
            let _ = kubectl.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
            kubectl.wait_with_output()
        });
        let output = output.map_err(|error| format!("kubectl cannot be started: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs kubectl like [`Node::try_kubectl`].
    ///
    /// # Panics
    /// If kubectl fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments, "").unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// Applies YAML or JSON documents, like [`cluster::apply`](crate::cluster::apply).
    ///
    /// # Panics
    /// If the API server rejects an object.
    pub fn apply(&self, manifests: &str) {
        let applied =
            self.try_kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], manifests);
        applied.unwrap_or_else(|error| panic!("kubectl apply: {error}\n{manifests}"));
    }

    /// Returns a command that runs a program of the machine in the node's network. Pods reach it at the node's addresses. It
    /// sees the machine's files. `KUBECONFIG` has all rights.
    ///
    /// Start a server with [`Program::start`](crate::program::Program::start), which ends it with the test.
    pub fn network_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.process())).arg("--").arg(program);
        command.env("PATH", &self.path).env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Returns a command that runs a program in all namespaces of the node, where it sees the files and processes of
    /// containerd and the pods.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.process().to_string(),
            "--mount",
            "--net",
            "--pid",
            "--uts",
            "--ipc",
        ]);
        command.args(["--", program]).env("PATH", &self.path);
        command
    }

    /// Imports the images of an archive, in the format of `docker save` or an OCI archive. Pods find an image by the name in
    /// the archive, if they have `imagePullPolicy: Never` or `IfNotPresent`.
    ///
    /// # Panics
    /// If the archive is invalid.
    pub fn import_image(&self, archive: &Path) {
        let mut ctr = self.command("ctr");
        ctr.args(["--namespace", "k8s.io", "images", "import"])
            .arg(std::path::absolute(archive).expect("a path"));
        install::run(&mut ctr).unwrap_or_else(|error| panic!("image {}: {error}", archive.display()));
    }

    /// Makes and imports an image of files, each with its path in the image. `reference` is its name, for example
    /// `localhost/agent:test`. `entrypoint` is the command that pods run.
    ///
    /// # Panics
    /// If a file cannot be read.
    pub fn make_image(&self, reference: &str, entrypoint: &[&str], files: &[(&Path, &str)]) {
        let archive = self.directory().join("image.tar");
        let made = image::write(&archive, reference, &json!({"Entrypoint": entrypoint}), files, &[]);
        made.unwrap_or_else(|error| panic!("image {reference}: {error}"));
        self.import_image(&archive);
    }

    /// Stops the API server with SIGSTOP: it accepts connections and does not answer.
    pub fn pause_api_server(&self) {
        self.control_plane.command("pause-api-server");
    }

    /// Continues the API server after [`Node::pause_api_server`], and waits until it is ready.
    pub fn resume_api_server(&self) {
        self.control_plane.command("resume-api-server");
        self.wait_until_ready();
    }

    /// Kills the API server: connections are refused.
    pub fn stop_api_server(&self) {
        self.control_plane.command("stop-api-server");
    }

    /// Starts the API server after [`Node::stop_api_server`], and waits until it is ready.
    pub fn start_api_server(&self) {
        self.control_plane.command("start-api-server");
        self.wait_until_ready();
    }
}

/// Returns the file of a program in the directories of a `PATH`.
fn find(path: &OsStr, program: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Checks the programs of Debian's packages. Returns the directory of the CNI plugins.
fn debian_programs() -> Result<PathBuf, Unavailable> {
    let hint = "apt-get install containerd runc containernetworking-plugins busybox-static nftables iproute2 util-linux";
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in
        ["containerd", "containerd-shim-runc-v2", "ctr", "runc", "busybox", "nft", "ip", "unshare", "nsenter"]
    {
        if find(&path, program).is_none() {
            return Err(Unavailable::because(format!("{program} is not in PATH: {hint}")));
        }
    }
    // The second is the default path of Kubernetes.
    let directories = ["/usr/lib/cni", "/opt/cni/bin"].map(PathBuf::from);
    let found = directories.into_iter().find(|directory| directory.join("ptp").is_file());
    found.ok_or_else(|| {
        Unavailable::because(format!("the CNI plugin ptp is not in /usr/lib/cni or /opt/cni/bin: {hint}"))
    })
}
