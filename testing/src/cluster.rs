//! A real control plane, etcd and kube-apiserver, for tests.
//!
//! [`Cluster::shared`] starts one for the whole test binary, in a network namespace of its own: addresses
//! and ports are fixed and clash with nobody, and nothing of the machine's network is seen or changed.
//! What a test does with it runs inside that namespace: [`Cluster::run`].
//!
//! ```no_run
//! # use testing::cluster::{Cluster, account, namespace};
//! let Some(cluster) = Cluster::shared() else { return };
//! cluster.run(async || {
//!     let client = cluster.client().await;
//!     namespace(&client, "shop", &[]).await;
//!     account(&client, "shop", "cart", &[("eks.amazonaws.com/role-arn", "cart")]).await;
//! });
//! ```
//!
//! - Every address of `172.30.0.0/16` can be bound there ([`pod_address`]), as pods' can: what a Service
//!   ([`serve`]) or a webhook's URL names is called at such an address. The agent's address is there too.
//! - There is no controller and no node. What they would make, a test makes: the account `default` of a
//!   namespace, EndpointSlices, the tokens in pods.
//! - RBAC is on. [`Cluster::kubeconfig`] is the admin's; [`Cluster::kubeconfig_of`] is an account's.
//! - The issuer of service account tokens (RS256) is the API server's own URL.

mod programs; // etcd and kube-apiserver, built from their sources
mod files; // certificates, keys, tokens, kubeconfig files
mod objects; // what people, controllers and kubelet make

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::install::Unavailable;
use crate::left_out::or_left_out;
use crate::netns;
pub use objects::{account, apply, apply_object, documents, namespace, serve, token};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster");

/// Where the API server listens, on port 443.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

/// Where it is found inside a cluster: the Service `kubernetes`, the first of the Services' addresses.
pub const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// Where EKS Pod Identity's agent is for pods.
pub const AGENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 23);

/// The issuer of service account tokens.
pub const ISSUER: &str = "https://172.30.0.1";

/// An address of a pod, by number.
pub const fn pod_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 1, number)
}

/// A running control plane; it ends when this is dropped, and with the process at the latest.
#[derive(Debug)]
pub struct Cluster {
    /// Ends everything when its standard input ends.
    holder: Child,
    directory: PathBuf,
}

impl Cluster {
    /// The one of this process, started by whoever comes first; `None` where it cannot be had, which a
    /// line on stderr says.
    ///
    /// # Panics
    /// Under `CI=true`, in place of `None`.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// A new one, ready to be asked; as [`Cluster::shared`] otherwise.
    ///
    /// # Panics
    /// Where it does not start; and under `CI=true`, in place of `None`.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a control plane whose kube-apiserver gets these flags too.
    ///
    /// # Panics
    /// As [`Cluster::start`] does.
    pub fn start_with(flags: &[&str]) -> Option<Self> {
        or_left_out("Kubernetes control plane", Self::try_start(flags))
    }

    fn try_start(flags: &[&str]) -> Result<Self, Unavailable> {
        if !rustix::process::geteuid().is_root() {
            return Err(Unavailable::because("network namespaces need root"));
        }
        let path = programs::path()?;
        let directory = files::write();
        let mut holder = Command::new("unshare")
            .args(["--net", "/bin/sh"])
            .arg(Path::new(SOURCES).join("control-plane.sh"))
            .arg(&directory)
            .args([API_ADDRESS, SERVICE_ADDRESS, AGENT_ADDRESS].map(|address| address.to_string()))
            .args(flags)
            .env("PATH", path)
            .process_group(0) // Ctrl-C is for the tests; this has to outlive them
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Unavailable::because(format!("unshare cannot be started: {error}")))?;
        let mut up = String::new();
        let said = holder.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut up));
        let cluster = Self { holder, directory };
        assert!(up == "up\n", "no network namespace, see above: {said:?} {up:?}");
        cluster.wait_until_ready();
        Ok(cluster)
    }

    /// Runs something inside the cluster's network, on a thread and a tokio runtime of its own. A panic
    /// there is one here.
    ///
    /// # Panics
    /// Where what it ran did.
    pub fn run<T: Send + 'static, F: Future<Output = T>>(
        &self,
        inside: impl FnOnce() -> F + Send + 'static,
    ) -> T {
        let thread = netns::within(format!("/proc/{}/ns/net", self.holder.id()), || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build().expect("threads");
            runtime.block_on(inside())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The admin's kubeconfig file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join(files::ADMIN)
    }

    /// The certificate authority of the API server, as a file.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join(files::CA)
    }

    /// What the API server has logged: it says there which webhooks it could not call.
    pub fn api_log(&self) -> String {
        std::fs::read_to_string(self.directory.join(files::API_LOG)).unwrap_or_default()
    }

    /// A client with all rights. It belongs to the runtime that it is made on.
    pub async fn client(&self) -> kube::Client {
        client(&self.kubeconfig()).await
    }

    /// A kubeconfig file with the rights of a service account: RBAC decides what that is. Its token holds
    /// for an hour.
    ///
    /// # Panics
    /// Where there is no such account.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = token(&self.client().await, namespace, account, None, &[ISSUER], 3600).await;
        files::kubeconfig(&self.directory, &format!("{namespace}.{account}.kubeconfig"), &token)
    }

    fn wait_until_ready(&self) {
        let (kubeconfig, logs) = (self.kubeconfig(), self.directory.clone());
        self.run(async move || {
            let client = client(&kubeconfig).await;
            let ready = async {
                // Its answer is 500 until everything of it has started.
                while !ready(&client).await {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let in_time = tokio::time::timeout(Duration::from_secs(60), ready).await;
            assert!(in_time.is_ok(), "the API server is not ready after 60 s:\n{}", files::logs(&logs));
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        if let Err(error) = self.holder.wait() {
            eprintln!("a control plane stays behind: {error}");
        }
    }
}

async fn ready(client: &kube::Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
    client.request_text(request).await.is_ok()
}

/// A client as that kubeconfig file says.
///
/// # Panics
/// Where it cannot be read, or is none.
pub async fn client(kubeconfig: &Path) -> kube::Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig file");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.expect("a client's configuration")).expect("a client")
}
