//! A simulated node with the agent's process and the local services, a hostile pod and a good pod, each in its own
//! network namespace.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use pod_identity_local::fixture::Fixture;
use pod_identity_local::sample::SAMPLE;
use pod_identity_local::services::{LocalConfig, LocalServices, Workload};
use pod_identity_runtime::clock;
use testing::netns::Namespace;
use testing::program::Program;
use tokio::sync::oneshot;

pub(crate) const AGENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)), 80);
pub(crate) const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2703);
/// The node's addresses on the links to its pods, from the network for tests (RFC 2544).
const TOWARDS_HOSTILE: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
const TOWARDS_GOOD: Ipv4Addr = Ipv4Addr::new(198, 18, 2, 1);

/// Tokens of the pods.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    /// A token of a service account with an association.
    pub(crate) good: String,
    /// A valid token of a service account without an association.
    pub(crate) without_association: String,
}

#[derive(Debug)]
pub(crate) struct TestNode {
    pub(crate) namespace: Namespace,
    pub(crate) hostile: Namespace,
    pub(crate) good: Namespace,
    pub(crate) agent: Program,
    pub(crate) tokens: Tokens,
    stop: Option<oneshot::Sender<()>>,
    services: Option<JoinHandle<()>>,
}

impl TestNode {
    /// Starts the agent with these arguments after `server` and this standard error. `shell`, for example `ulimit`,
    /// runs before it in the same process.
    pub(crate) fn start(arguments: &str, shell: &str, stderr: Stdio) -> Self {
        let [namespace, hostile, good] = [(); 3].map(|()| Namespace::new().unwrap());
        namespace.add_address(Ipv4Addr::new(169, 254, 170, 23)).unwrap();
        hostile.connect(&namespace, TOWARDS_HOSTILE, 1).unwrap();
        good.connect(&namespace, TOWARDS_GOOD, 1).unwrap();
        let (sender, receiver) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let services = namespace.run(move || run_services(&sender, stopped));
        let (auth, key, secret, tokens) = receiver.recv().unwrap();
        let script = format!(
            "{shell} exec {} server --cluster-name laptop --bind-hosts 169.254.170.23 --endpoint {auth} {arguments}",
            env!("CARGO_BIN_EXE_eks-pod-identity-agent")
        );
        let started = namespace.run(move || {
            Program::start(
                Command::new("sh")
                    .args(["-c", &script])
                    .env_clear()
                    .env("AWS_REGION", "eu-west-1")
                    .env("AWS_ACCESS_KEY_ID", key)
                    .env("AWS_SECRET_ACCESS_KEY", secret)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(stderr),
            )
        });
        let agent = started.join().unwrap().unwrap();
        let node =
            Self { namespace, hostile, good, agent, tokens, stop: Some(stop), services: Some(services) };
        node.good_pod(PodClient::wait_until_served);
        node
    }

    /// Runs a function in the good pod's namespace.
    pub(crate) fn good_pod<T: Send + 'static>(
        &self,
        inside: impl FnOnce(&PodClient) -> T + Send + 'static,
    ) -> T {
        let pod = PodClient { token: self.tokens.good.clone() };
        self.good.run(move || inside(&pod)).join().unwrap()
    }

    /// Gets an admin page. Returns status and body.
    pub(crate) fn admin(&self, path: &'static str) -> (u16, String) {
        self.namespace.run(move || get(ADMIN, path, "", Duration::from_secs(5)).unwrap()).join().unwrap()
    }

    /// Returns the sum of a metric's samples whose line contains `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let (_, page) = self.admin("/metrics");
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(services) = self.services.take() {
            let _ = services.join();
        }
    }
}

fn run_services(sender: &mpsc::Sender<(String, String, String, Tokens)>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let services =
            LocalServices::start(Fixture::from_yaml(SAMPLE).unwrap(), LocalConfig::default()).await.unwrap();
        let token = |service_account: &str| {
            let pod = Workload::new(
                "default".parse().unwrap(),
                service_account.parse().unwrap(),
                "app-1".parse().unwrap(),
            );
            services.token(&pod.unwrap(), clock::now(), Duration::from_secs(3600)).unwrap()
        };
        let tokens = Tokens { good: token("app"), without_association: token("nobody") };
        let key = services.agent_key();
        let secret = key.secret_access_key().to_owned();
        sender.send((services.auth_url(), key.access_key_id().to_owned(), secret, tokens)).unwrap();
        let _ = stopped.await;
    });
}

/// The good pod. Its requests run in its network namespace.
#[derive(Debug)]
pub(crate) struct PodClient {
    token: String,
}

impl PodClient {
    /// Sends a request over a new connection with the timeout of an SDK.
    pub(crate) fn fetch(&self) -> std::io::Result<(u16, String)> {
        get(AGENT, "/v1/credentials", &self.token, Duration::from_secs(2))
    }

    fn wait_until_served(&self) {
        for _ in 0..600 {
            if self.fetch().is_ok_and(|(status, _)| status == 200) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no credentials within 30 s: {:?}", self.fetch());
    }

    /// Sends `count` requests, 10 per second. Returns the sorted response times.
    ///
    /// # Panics
    /// If a response has no credentials.
    pub(crate) fn fetch_steadily(&self, count: u32) -> Vec<Duration> {
        let start = clock::monotonic();
        let mut times = Vec::new();
        for number in 0..count {
            let due = Duration::from_millis(100) * number;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            let asked = clock::monotonic();
            let answer = self.fetch();
            assert!(answer.as_ref().is_ok_and(|(status, _)| *status == 200), "request {number}: {answer:?}");
            times.push(asked.elapsed());
        }
        times.sort_unstable();
        times
    }
}

/// Returns a request with this token for a persistent connection.
pub(crate) fn request(token: &str) -> String {
    format!("GET /v1/credentials HTTP/1.1\r\nHost: 169.254.170.23\r\nAuthorization: {token}\r\n\r\n")
}

pub(crate) fn get(
    address: SocketAddr,
    path: &str,
    token: &str,
    limit: Duration,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let host = address.ip();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    if status == 0 {
        Err(std::io::Error::other(format!("no status line: {answer:?}")))
    } else {
        Ok((status, body))
    }
}
