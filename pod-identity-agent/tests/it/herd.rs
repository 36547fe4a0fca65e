//! Cache and single flight over real sockets.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pod_identity_agent::app::App;
use pod_identity_agent::config::TokenKeys;
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_local::services::Workload;
use pod_identity_runtime::clock;
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyLocation};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use testing::eventually::eventually;
use testing::wire::Connection;

use crate::agent::{
    Behaviour, FakeEksAuth, LOOPBACK, agent, check_error, config, credentials, fake_eks_auth, granted, pod,
    serving, token,
};

/// An issuer with a file of its keys.
struct KnownIssuer {
    issuer: Issuer,
    directory: tempfile::TempDir,
}

impl KnownIssuer {
    fn new() -> Self {
        let issuer = Issuer::new("https://a.test", "http://127.0.0.1:1", KeyAlgorithm::Es256).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("jwks.json"), issuer.jwks()).unwrap();
        Self { issuer, directory }
    }

    fn token(&self, pod: &Workload) -> String {
        self.issuer.mint(&pod.token_request(clock::now(), Duration::from_secs(60))).unwrap()
    }

    /// Starts an agent that verifies the tokens of this issuer.
    async fn agent(&self, eks_auth: &FakeEksAuth) -> SocketAddr {
        let mut config = config(eks_auth.address, &[LOOPBACK]);
        config.keys = TokenKeys::Configured(vec![IssuerConfig {
            issuer: self.issuer.issuer().to_owned(),
            keys: KeyLocation::File(self.directory.path().join("jwks.json")),
            bearer_token_file: None,
            outbound: Outbound::default(),
        }]);
        let agent = App::bind(config).await.unwrap();
        let address = agent.addresses()[0];
        tokio::spawn(agent.run(Shutdown::never()));
        address
    }
}

async fn grants() -> FakeEksAuth {
    fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await
}

/// Opens 64 connections and sends a request over each.
async fn herd(addresses: &[SocketAddr], token: &str) -> Vec<Connection> {
    let mut herd = Vec::new();
    for number in 0..64 {
        let address = addresses[number % addresses.len()];
        let mut connection = Connection::open(address).await.unwrap();
        let head =
            format!("GET /v1/credentials HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\n\r\n");
        connection.send(head.as_bytes()).await.unwrap();
        herd.push(connection);
    }
    herd
}

#[tokio::test]
async fn concurrent_requests_over_both_address_families_make_one_call() {
    let eks_auth = fake_eks_auth(Behaviour::WaitsForRelease).await;
    let agent = agent(eks_auth.address, &[LOOPBACK, IpAddr::V6(Ipv6Addr::LOCALHOST)]).await;
    let addresses = agent.addresses();
    assert_eq!(addresses.len(), 2);
    tokio::spawn(agent.run(Shutdown::never()));
    let herd = herd(&addresses, &token()).await;
    eks_auth.arrived.notified().await;
    eks_auth.release.notify_one();
    for mut connection in herd {
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, answer.json()["AccessKeyId"].as_str()), (200, Some("ASIAFAKE")));
    }
    assert_eq!(eks_auth.calls(), 1);
}

#[tokio::test]
async fn one_error_answers_all_waiting_requests() {
    let refusal = Behaviour::RespondsAfterRelease(400, "ExpiredTokenException", "{}".to_owned());
    let eks_auth = fake_eks_auth(refusal).await;
    let herd = herd(&[serving(eks_auth.address).await], &token()).await;
    eks_auth.arrived.notified().await;
    eks_auth.release.notify_one();
    for mut connection in herd {
        let answer = connection.answer().await.unwrap();
        assert_eq!((answer.status, check_error(&answer).as_str()), (400, "token_expired"));
    }
    // Later requests get the cached error of this token.
    assert_eq!(eks_auth.calls(), 1);
}

#[tokio::test]
async fn disconnected_leader_does_not_cancel_the_call() {
    let eks_auth = fake_eks_auth(Behaviour::WaitsForRelease).await;
    let (agent, token) = (serving(eks_auth.address).await, token());
    let mut herd = herd(&[agent], &token).await;
    eks_auth.arrived.notified().await;
    herd.drain(..32);
    eks_auth.release.notify_one();
    for mut connection in herd {
        assert_eq!(connection.answer().await.unwrap().status, 200);
    }
    assert_eq!(eks_auth.calls(), 1);
}

#[tokio::test]
async fn rotated_token_needs_no_call_with_keys() {
    let (eks_auth, issuer) = (grants().await, KnownIssuer::new());
    let (agent, pod) = (issuer.agent(&eks_auth).await, pod());
    for _ in 0..3 {
        assert_eq!(credentials(agent, &issuer.token(&pod)).await.status, 200);
    }
    assert_eq!(eks_auth.calls(), 1);
    // Another pod of the same service account has another identity.
    assert_eq!(credentials(agent, &issuer.token(&self::pod())).await.status, 200);
    assert_eq!(eks_auth.calls(), 2);
}

#[tokio::test]
async fn each_token_needs_one_call_without_keys() {
    let (eks_auth, issuer, pod) = (grants().await, KnownIssuer::new(), pod());
    let agent = serving(eks_auth.address).await;
    let tokens = [issuer.token(&pod), issuer.token(&pod)];
    for token in tokens.iter().chain(&tokens).chain(&tokens) {
        assert_eq!(credentials(agent, token).await.status, 200);
    }
    assert_eq!(eks_auth.calls(), 2);
}

#[tokio::test]
async fn forged_token_makes_no_call_with_keys() {
    let (eks_auth, issuer, other) = (grants().await, KnownIssuer::new(), KnownIssuer::new());
    let (agent, pod) = (issuer.agent(&eks_auth).await, pod());
    assert_eq!(credentials(agent, &issuer.token(&pod)).await.status, 200);
    let answer = credentials(agent, &other.token(&pod)).await;
    assert_eq!((answer.status, check_error(&answer).as_str()), (503, "token_key_unknown"));
    let (genuine, forged) = (issuer.token(&pod), other.token(&pod));
    let swapped = format!("{}.{}", genuine.rsplit_once('.').unwrap().0, forged.rsplit_once('.').unwrap().1);
    let answer = credentials(agent, &swapped).await;
    assert_eq!((answer.status, check_error(&answer).as_str()), (400, "token_signature_invalid"));
    assert_eq!(eks_auth.calls(), 1);
}

#[tokio::test]
async fn serves_cached_credentials_while_eks_auth_is_down() {
    let eks_auth = fake_eks_auth(Behaviour::WaitsForRelease).await;
    let (agent, token) = (serving(eks_auth.address).await, token());
    let first = tokio::spawn({
        let token = token.clone();
        async move { credentials(agent, &token).await.status }
    });
    eks_auth.arrived.notified().await;
    eks_auth.release.notify_one();
    assert_eq!(first.await.unwrap(), 200);
    // EKS Auth sends no response from here on.
    for _ in 0..10 {
        assert_eq!(credentials(agent, &token).await.status, 200);
    }
    assert_eq!(eks_auth.calls(), 1);
}

#[tokio::test]
async fn calls_again_after_an_error_without_cached_credentials() {
    let none = Behaviour::Responds(404, "ResourceNotFoundException", "{}".to_owned());
    let (eks_auth, token) = (fake_eks_auth(none).await, token());
    let agent = serving(eks_auth.address).await;
    assert_eq!(credentials(agent, &token).await.status, 404);
    eventually("the agent calls again", || async {
        assert_eq!(credentials(agent, &token).await.status, 404);
        (eks_auth.calls() >= 2).then_some(())
    })
    .await;
}
