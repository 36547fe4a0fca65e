//! A real control plane, etcd and kube-apiserver, for tests.
//!
//! [`Cluster::shared`] starts one control plane for the whole test binary, in a network namespace of its own. The namespace
//! is isolated from the machine's network, so the addresses and ports are fixed. [`Cluster::run`] runs a test inside it.
//!
//! ```no_run
//! # use testing::cluster::{Cluster, namespace, service_account};
//! let Some(cluster) = Cluster::shared() else { return };
//! cluster.run(async || {
//!     let client = cluster.client().await;
//!     namespace(&client, "shop", &[]).await;
//!     service_account(&client, "shop", "cart", &[("eks.amazonaws.com/role-arn", "cart")]).await;
//! });
//! ```
//!
//! - A test can bind any address of `172.30.0.0/16` ([`pod_address`]) and the agent's address. The API server calls webhooks
//!   at these addresses, by a Service ([`set_endpoints`]) or a URL.
//! - There are no controllers and no nodes. A test creates their objects itself: the service account `default` of a
//!   namespace, EndpointSlices, and the tokens of pods.
//! - RBAC is on. [`Cluster::kubeconfig`] has all rights. [`Cluster::kubeconfig_of`] has the rights of a service account.
//! - The issuer of service account tokens (RS256) is the API server's URL.

pub(crate) mod programs; // programs of Kubernetes, built from source
pub(crate) mod files; // certificates, keys, tokens, kubeconfig files
mod objects; // Kubernetes objects
mod supervisor; // the script that runs the programs

use std::future::Future;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::install::Unavailable;
use crate::netns;
use crate::skip::or_skip;
pub use objects::{apply, apply_object, documents, namespace, service_account, set_endpoints, token};
use supervisor::Supervisor;

pub(crate) const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster");

/// The API server's address. Its port is 443.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

/// The address of the Service `kubernetes`: the first of the Service addresses.
pub const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The address of EKS Pod Identity's agent.
pub const AGENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 23);

/// The issuer of service account tokens.
pub const ISSUER: &str = "https://172.30.0.1";

/// Returns the address of a pod, by number.
pub const fn pod_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 1, number)
}

/// A running control plane. It ends when this is dropped, or when the process ends.
#[derive(Debug)]
pub struct Cluster {
    supervisor: Supervisor,
    directory: PathBuf,
    /// A process in the cluster's namespaces.
    process: u32,
}

impl Cluster {
    /// Returns the shared control plane of this process. The first call starts it. If that is not possible, prints a notice
    /// on standard error and returns `None`.
    ///
    /// # Panics
    /// If it cannot be started under `CI=true`.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Starts a new control plane and waits until it is ready. If it is unavailable, prints a notice on standard error and
    /// returns `None`.
    ///
    /// # Panics
    /// If it is not ready in time, or is unavailable under `CI=true`.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a control plane with additional flags of kube-apiserver.
    ///
    /// # Panics
    /// Like [`Cluster::start`].
    pub fn start_with(flags: &[&str]) -> Option<Self> {
        or_skip("Kubernetes control plane", Self::try_start(flags))
    }

    fn try_start(flags: &[&str]) -> Result<Self, Unavailable> {
        if !rustix::process::geteuid().is_root() {
            return Err(Unavailable::because("network namespaces need root"));
        }
        let path = programs::path(programs::CONTROL_PLANE)?;
        let directory = files::write();
        let mut script = Command::new("unshare");
        script.args(["--net", "/bin/sh"]).arg(Path::new(SOURCES).join("control-plane.sh")).arg(&directory);
        script.args([API_ADDRESS, SERVICE_ADDRESS, AGENT_ADDRESS].map(|address| address.to_string()));
        script.arg(ISSUER).args(flags).env("PATH", path);
        Self::run_script(&mut script, directory)
    }

    /// Starts a script that runs the programs, and waits until the API server is ready. The first line of the script is
    /// `up`, `up PROCESS` or `unavailable: REASON`.
    pub(crate) fn run_script(script: &mut Command, directory: PathBuf) -> Result<Self, Unavailable> {
        let (supervisor, line) = Supervisor::start(script)?;
        if let Some(reason) = line.strip_prefix("unavailable: ") {
            return Err(Unavailable::because(reason));
        }
        let process =
            line.strip_prefix("up").map(|process| process.trim().parse().unwrap_or(supervisor.id()));
        let process =
            process.unwrap_or_else(|| panic!("the cluster did not start, see standard error: {line:?}"));
        let cluster = Self { supervisor, directory, process };
        cluster.wait_until_ready();
        Ok(cluster)
    }

    /// Runs a future inside the cluster's network, on a new thread with a new tokio runtime.
    ///
    /// # Panics
    /// If the future panics.
    pub fn run<T: Send + 'static, F: Future<Output = T>>(
        &self,
        inside: impl FnOnce() -> F + Send + 'static,
    ) -> T {
        let thread = netns::run_in_namespace(format!("/proc/{}/ns/net", self.process), || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(2).enable_all().build().expect("threads");
            runtime.block_on(inside())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Returns the path of a kubeconfig file with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join(files::ADMIN)
    }

    /// Returns the path of the API server's CA certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join(files::CA)
    }

    /// Returns the API server's log. It contains the failed calls of webhooks.
    pub fn api_log(&self) -> String {
        std::fs::read_to_string(self.directory.join(files::API_LOG)).unwrap_or_default()
    }

    /// Returns a client with all rights. Use it only on the runtime that created it.
    pub async fn client(&self) -> kube::Client {
        client(&self.kubeconfig()).await
    }

    /// Writes a kubeconfig file with the RBAC rights of a service account, and returns its path. The token is valid for an
    /// hour.
    ///
    /// # Panics
    /// If the service account does not exist.
    pub async fn kubeconfig_of(&self, namespace: &str, service_account: &str) -> PathBuf {
        let token = token(&self.client().await, namespace, service_account, None, &[], 3600).await;
        files::kubeconfig(&self.directory, &format!("{namespace}.{service_account}.kubeconfig"), &token)
    }

    /// Returns the directory of the cluster's files.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the id of a process in the cluster's namespaces.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Returns the process id of the script of [`Cluster::run_script`].
    pub(crate) fn supervisor(&self) -> u32 {
        self.supervisor.id()
    }

    /// Sends a command to the script of [`Cluster::run_script`].
    pub(crate) fn command(&self, command: &str) {
        self.supervisor.command(command);
    }

    pub(crate) fn wait_until_ready(&self) {
        let (kubeconfig, logs) = (self.kubeconfig(), self.directory.clone());
        self.run(async move || {
            let client = client(&kubeconfig).await;
            let ready = async {
                // `/readyz` returns 500 until all components have started.
                while !ready(&client).await {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let result = tokio::time::timeout(Duration::from_secs(60), ready).await;
            assert!(result.is_ok(), "the API server is not ready after 60 s:\n{}", files::logs(&logs));
        });
    }
}

async fn ready(client: &kube::Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
    client.request_text(request).await.is_ok()
}

/// Returns a client with this kubeconfig file.
///
/// # Panics
/// If the file cannot be read or is invalid.
pub async fn client(kubeconfig: &Path) -> kube::Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig file");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.expect("a client's configuration")).expect("a client")
}
