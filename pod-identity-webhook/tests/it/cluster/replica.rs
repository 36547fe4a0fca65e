//! The program, as the Deployment runs it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use testing::cluster::pod_address;
use testing::eventually::eventually;
use testing::wire::ask;

/// A process of the webhook; killed when dropped.
pub(crate) struct Replica {
    child: Child,
    port: u16,
    metrics_port: u16,
    log: PathBuf,
}

impl Replica {
    /// Starts it; it is not ready yet. What it logs goes into that directory.
    pub(crate) fn start(arguments: &[String], directory: &Path) -> Self {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // In one network namespace replicas differ by port, where pods would by address. From 32768 on the kernel
        // gives ports to connections.
        let (port, metrics_port) = (20_000 + number, 30_000 + number);
        let log = directory.join(format!("replica-{number}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_pod-identity-webhook"))
            .args(arguments)
            .args([format!("--port={port}"), format!("--metrics-port={metrics_port}")])
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(File::options().append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, port, metrics_port, log }
    }

    /// Where it answers the API server.
    pub(crate) fn endpoint(&self) -> SocketAddrV4 {
        SocketAddrV4::new(pod_address(1), self.port)
    }

    /// Waits as kubelet's readiness probe does.
    pub(crate) async fn ready(&self) {
        eventually(&format!("a replica is ready: {}", self.log.display()), async || {
            (self.status("/readyz").await? == 200).then_some(())
        })
        .await;
    }

    async fn status(&self, path: &str) -> Option<u16> {
        let address = (Ipv4Addr::LOCALHOST, self.metrics_port).into();
        Some(ask(address, &format!("GET {path}"), &[], b"").await.ok()?.status)
    }

    /// One of its metrics: the sum of those lines that begin so.
    pub(crate) async fn metric(&self, beginning: &str) -> f64 {
        let address = (Ipv4Addr::LOCALHOST, self.metrics_port).into();
        let page = ask(address, "GET /metrics", &[], b"").await.unwrap().text();
        let values = page.lines().filter(|line| line.starts_with(beginning));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What kubelet does to a pod that is deleted.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap()).await.unwrap()
    }

    /// What it has logged.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.logged());
        }
    }
}
