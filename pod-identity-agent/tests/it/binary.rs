//! The binary: signals, exit codes, proxies.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use testing::wire::{Answer, Connection};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::agent::{Behaviour, check_error, credentials, fake_eks_auth, token};

struct AgentProcess {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    reading: tokio::task::JoinHandle<()>,
}

/// Starts the binary on its own address of the loopback network, so that no other test uses its port.
async fn start(endpoint: &str, environment: &[(&str, &str)]) -> AgentProcess {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(2);
    let last = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let host: IpAddr = [127, 0, 77, last].into();
    let port = std::net::TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_eks-pod-identity-agent"))
        .args(["server", "--cluster-name", "laptop", "--probe-port", "0", "--verbosity", "trace"])
        .args(["--bind-hosts", &format!("{host},192.0.2.77"), "--port", &port.to_string()])
        .args(["--endpoint", endpoint])
        .env_clear()
        .envs([("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "AKIATEST"), ("NO_COLOR", "1")])
        .env("AWS_SECRET_ACCESS_KEY", "the-agents-own-secret")
        .envs(environment.iter().copied())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let log = Arc::new(Mutex::new(String::new()));
    let kept = log.clone();
    let (ready, serving) = tokio::sync::oneshot::channel();
    let reading = tokio::spawn(async move {
        let mut ready = Some(ready);
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("serving credentials") {
                ready.take().map(|ready| ready.send(()));
            }
            kept.lock().unwrap().push_str(&(line + "\n"));
        }
    });
    let bound = tokio::time::timeout(std::time::Duration::from_secs(20), serving).await;
    assert!(matches!(bound, Ok(Ok(()))), "{}", log.lock().unwrap());
    AgentProcess { child, address: SocketAddr::new(host, port), log, reading }
}

impl AgentProcess {
    async fn signal(&self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    }

    async fn status(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), self.child.wait()).await;
        ended.expect("the process ends").unwrap().code()
    }

    async fn logged(&self, text: &str) {
        testing::eventually::eventually(text, || async {
            self.log.lock().unwrap().contains(text).then_some(())
        })
        .await;
    }
}

fn asking(address: SocketAddr) -> tokio::task::JoinHandle<Answer> {
    tokio::spawn(async move { credentials(address, &token()).await })
}

#[tokio::test]
async fn sigterm_drains_requests_and_exits_with_status_0() {
    let eks_auth = fake_eks_auth(Behaviour::WaitsForRelease).await;
    let mut agent = start(&format!("http://{}", eks_auth.address), &[]).await;
    agent.logged("192.0.2.77").await; // the warning about a skipped address
    let answer = asking(agent.address);
    eks_auth.arrived.notified().await;
    agent.signal().await;
    testing::eventually::eventually("new connections are refused", || async {
        Connection::open(agent.address).await.err().map(drop)
    })
    .await;
    eks_auth.release.notify_one();
    assert_eq!(answer.await.unwrap().status, 200);
    assert_eq!(agent.status().await, Some(0));
    agent.reading.await.unwrap();
    // The log at trace level has no token, no key and no session credentials.
    let log = agent.log.lock().unwrap();
    assert!(log.contains("ASIAFAKE"), "{log}");
    for secret in ["the-agents-own-secret", "fake-secret", "fake-session", "eyJ"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn second_sigterm_ends_the_agent_at_once() {
    let eks_auth = fake_eks_auth(Behaviour::Hangs).await;
    let mut agent = start(&format!("http://{}", eks_auth.address), &[]).await;
    let answer = asking(agent.address);
    eks_auth.arrived.notified().await;
    agent.signal().await;
    agent.logged("draining").await;
    assert!(agent.child.try_wait().unwrap().is_none());
    agent.signal().await;
    assert_eq!(agent.status().await, Some(130));
    assert!(answer.await.is_err(), "the request gets no response");
}

#[tokio::test]
async fn https_uses_the_proxy_of_the_environment_except_for_no_proxy() {
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let agent = start("https://auth.pod-identity.test:8443", &[("HTTPS_PROXY", &url)]).await;
    let answer = asking(agent.address);
    let (mut stream, _) = proxy.accept().await.unwrap();
    let mut head = vec![0; 64];
    let length = stream.read(&mut head).await.unwrap();
    let head = String::from_utf8_lossy(&head[..length]).into_owned();
    assert!(head.starts_with("CONNECT auth.pod-identity.test:8443 HTTP/1.1"), "{head}");
    drop((stream, proxy));
    assert_eq!(check_error(&answer.await.unwrap()), "upstream_unavailable");

    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", crate::agent::granted("default", "app"))).await;
    let excepted = [("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "127.0.0.1")];
    let agent = start(&format!("http://{}", eks_auth.address), &excepted).await;
    assert_eq!(credentials(agent.address, &token()).await.status, 200);
}

#[tokio::test]
async fn refuses_to_start_without_an_address_or_with_an_unsafe_endpoint() {
    for (flags, expected) in [
        (&["--bind-hosts", "192.0.2.77"][..], "cannot serve credentials on"),
        (&["--endpoint", "http://10.0.0.1"], "http is allowed for loopback addresses only"),
        (&["--agent-auth", "token"], "give its URL with --endpoint"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_eks-pod-identity-agent"))
            .args(["server", "--cluster-name", "laptop", "--probe-port", "0", "--port", "0"])
            .args(flags)
            .env_clear()
            .env("AWS_REGION", "eu-west-1")
            .output()
            .await
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}
