//! The released webhook in a separate process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testing::authority::Authority;
use testing::wire;

use super::{Error, within};

/// The bench runs in a separate network namespace, so fixed ports are free.
const PORT: u16 = 8443;
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9999);

pub(super) struct Webhook {
    child: Child,
    pub(super) authority: Authority,
}

/// The program, and its kubeconfig.
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) kubeconfig: PathBuf,
}

/// Builds the program in release mode.
pub(super) fn build() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built =
        Command::new(cargo).args(["build", "--quiet", "--release", "-p", "pod-identity-webhook"]).status()?;
    if !built.success() {
        return Err("the webhook cannot be built".into());
    }
    Ok(std::env::current_exe()?.with_file_name("pod-identity-webhook"))
}

impl Program {
    /// Starts the webhook, and waits until it is ready.
    pub(super) async fn start(&self, flag: &str) -> Result<Webhook, Error> {
        let authority = Authority::new();
        authority.write_pair();
        let child = Command::new(&self.path)
            .args([
                "--in-cluster=false",
                &format!("--port={PORT}"),
                &format!("--metrics-port={}", METRICS.port()),
            ])
            .arg(format!("--kubeconfig={}", self.kubeconfig.display()))
            .arg(format!("--tls-cert={}", authority.certificate_file().display()))
            .arg(format!("--tls-key={}", authority.key_file().display()))
            .arg(flag)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let webhook = Webhook { child, authority };
        let ready = within(Duration::from_secs(60), async || {
            let answer = wire::ask(METRICS, "GET /readyz", &[], b"").await.ok()?;
            (answer.status == 200).then_some(())
        });
        ready.await.ok_or("the webhook did not become ready")?;
        Ok(webhook)
    }
}

impl Webhook {
    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{PORT}/mutate")
    }

    /// Returns the resident memory in MB.
    pub(super) fn resident(&self) -> Result<f64, Error> {
        self.memory("VmRSS:")
    }

    /// Returns the maximum resident memory in MB.
    pub(super) fn peak(&self) -> Result<f64, Error> {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)).ok_or("no such line")?;
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024.0 / 1e6)
    }

    /// Returns the number of reads of the API server so far.
    pub(super) async fn reads(&self) -> Result<f64, Error> {
        self.sum("pod_identity_api_reads_total").await
    }

    /// Returns the number of reviews so far.
    pub(super) async fn reviews(&self) -> Result<f64, Error> {
        self.sum("pod_identity_webhook_reviews_total").await
    }

    async fn sum(&self, counter: &str) -> Result<f64, Error> {
        let text = wire::ask(METRICS, "GET /metrics", &[], b"").await?.text();
        let values = text.lines().filter(|line| line.starts_with(counter));
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("a webhook was not stopped: {error}");
        }
    }
}
