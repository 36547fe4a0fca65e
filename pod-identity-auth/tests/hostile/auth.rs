//! A process of `pod-identity-auth`, with the issuer and the STS of `pod-identity-local`.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use pod_identity_local::fixture::Fixture;
use pod_identity_local::services::{AuthPrincipal, LocalConfig, LocalServices, Workload, write_private};
use pod_identity_runtime::clock;
use testing::eventually::eventually;
use testing::program::Program;
use testing::wire::{Answer, ask};

const FIXTURE: &str = include_str!("../it/fixture.yaml");

pub(crate) struct Auth {
    pub(crate) address: SocketAddr,
    pub(crate) program: Program,
    admin: SocketAddr,
    token: String,
    directory: tempfile::TempDir,
    services: LocalServices,
}

impl Auth {
    /// Starts the process with these arguments in a new mount namespace. `shell` runs before it in the same process.
    pub(crate) async fn start(arguments: &[&str], shell: &str, stderr: Stdio, sts: Option<String>) -> Self {
        let config = LocalConfig { principal: AuthPrincipal::IamRole, ..LocalConfig::default() };
        let services = LocalServices::start(Fixture::from_yaml(FIXTURE).unwrap(), config).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let associations = directory.path().join("associations.json");
        write_private(&associations, &serde_json::to_string(services.associations()).unwrap()).unwrap();
        let (address, admin) = (free_address(), free_address());
        let program = env!("CARGO_BIN_EXE_pod-identity-auth");
        let script = format!(
            "{shell} exec {program} --listen {address} --admin {admin} --associations {} {}",
            associations.display(),
            arguments.join(" ")
        );
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &script])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ENDPOINT_URL_STS", sts.unwrap_or_else(|| services.sts_url()))
            .env("AWS_ACCESS_KEY_ID", "ASIABROKER0000000000")
            .env("AWS_SECRET_ACCESS_KEY", "broker-secret-broker-secret")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let pod = Workload::new("shop".parse().unwrap(), "cart".parse().unwrap(), "cart-1".parse().unwrap());
        let token = services.token(&pod.unwrap(), clock::now(), Duration::from_secs(600)).unwrap();
        let program = Program::start(&mut command).unwrap();
        Self { address, program, admin, token, directory, services }
    }

    pub(crate) async fn wait_until_ready(&self) {
        self.wait_for("/readyz").await;
    }

    pub(crate) async fn wait_until_alive(&self) {
        self.wait_for("/healthz").await;
        // Time to fetch the issuer's keys.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    async fn wait_for(&self, path: &str) {
        let line = format!("GET {path}");
        eventually(path, || async {
            ask(self.admin, &line, &[], b"").await.ok().filter(|answer| answer.status == 200)
        })
        .await;
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.id()
    }

    /// Exchanges the token of a pod.
    pub(crate) async fn exchange(&self) -> Answer {
        let body = format!(r#"{{"token":"{}"}}"#, self.token);
        let line = "POST /clusters/demo/assume-role-for-pod-identity";
        ask(self.address, line, &[], body.as_bytes()).await.unwrap()
    }

    /// Replaces the association file with one without associations.
    pub(crate) fn remove_associations(&self) {
        let mut file = self.services.associations().clone();
        file.associations.clear();
        let path = self.directory.path().join("associations.json");
        write_private(&path, &serde_json::to_string(&file).unwrap()).unwrap();
    }

    /// Returns the sum of a metric's samples whose line contains `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let page = ask(self.admin, "GET /metrics", &[], b"").await.unwrap().text();
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}
