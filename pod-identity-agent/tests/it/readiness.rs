//! The readiness of the agent and its reasons.

use std::net::SocketAddr;
use std::time::Duration;

use pod_identity_agent::app::App;
use pod_identity_agent::config::{AgentAuth, Config, TokenKeys};
use pod_identity_core::service::Clock;
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_runtime::clock;
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyLocation};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use testing::eventually::eventually;
use testing::wire::ask;

use crate::agent::{Behaviour, LOOPBACK, check_error, config, credentials, fake_eks_auth, granted, token};

async fn serve(config: Config) -> (SocketAddr, SocketAddr) {
    let app = App::bind(config).await.unwrap();
    let addresses = (app.addresses()[0], app.admin_addresses()[0]);
    tokio::spawn(app.run(Shutdown::never()));
    addresses
}

async fn ready(admin: SocketAddr) -> (u16, String) {
    let health = ask(admin, "GET /healthz", &[], b"").await.unwrap();
    assert_eq!(health.status, 200, "a restart would not help");
    let answer = ask(admin, "GET /readyz", &[], b"").await.unwrap();
    (answer.status, answer.text())
}

#[tokio::test]
async fn not_ready_without_own_credentials() {
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    let config = config(eks_auth.address, &[LOOPBACK]);
    let AgentAuth::Token { file } = config.eks_auth.agent_auth.clone() else { panic!() };
    std::fs::remove_file(&file).unwrap();
    let (agent, admin) = serve(config).await;
    assert_eq!(ready(admin).await.0, 200, "ready before the first exchange");

    let answer = credentials(agent, &token()).await;
    assert_eq!((answer.status, check_error(&answer).as_str()), (503, "own_credentials"));
    let (status, why) = ready(admin).await;
    assert_eq!(status, 503);
    assert!(why.starts_with("own_credentials: ") && why.contains(file.to_str().unwrap()), "{why}");

    std::fs::write(&file, "agents.own.token").unwrap();
    assert_eq!(credentials(agent, &token()).await.status, 200);
    assert_eq!(ready(admin).await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn stays_ready_and_reports_faults_after_one_accepted_call() {
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    let config = config(eks_auth.address, &[LOOPBACK]);
    let AgentAuth::Token { file } = config.eks_auth.agent_auth.clone() else { panic!() };
    let (agent, admin) = serve(config).await;
    assert_eq!(credentials(agent, &token()).await.status, 200);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(check_error(&credentials(agent, &token()).await), "own_credentials");

    let (status, text) = ready(admin).await;
    assert!(status == 200 && text.starts_with("ready\nown_credentials: "), "{status} {text}");
    let metrics = ask(admin, "GET /metrics", &[], b"").await.unwrap().text();
    assert!(metrics.contains("pod_identity_condition{condition=\"own_credentials\"} 0"), "{metrics}");
}

#[tokio::test]
async fn not_ready_if_eks_auth_refuses_the_agent_but_ready_if_it_refuses_a_pod() {
    for (status, exception, ready_then) in [
        (403, "UnrecognizedClientException", 503),
        (403, "InvalidSignatureException", 503),
        (404, "ResourceNotFoundException", 200),
        (400, "InvalidTokenException", 200),
        (400, "AccessDeniedException", 200),
        (429, "ThrottlingException", 200),
        (503, "ServiceUnavailableException", 200),
    ] {
        let behaviour = Behaviour::Responds(status, exception, "{}".to_owned());
        let (agent, admin) = serve(config(fake_eks_auth(behaviour).await.address, &[LOOPBACK])).await;
        assert_ne!(credentials(agent, &token()).await.status, 200);
        assert_eq!(ready(admin).await.0, ready_then, "{exception}");
    }
}

#[tokio::test]
async fn errors_of_pod_identity_auth_about_a_pod_show_that_it_accepts_the_agent() {
    for (code, ready_then) in [
        ("role_trust_refused", 200),
        ("session_refused", 200),
        ("own_credentials", 200),
        ("throttled", 200),
        ("cluster_unknown", 200),
        // These may concern the agent itself.
        ("caller_refused", 503),
        ("token_key_unknown", 503),
        ("node_mismatch", 503),
        ("request_malformed", 503),
    ] {
        let own =
            fake_eks_auth(Behaviour::RespondsAsPodIdentityAuth(400, "AccessDeniedException", code)).await;
        let config = config(own.address, &[LOOPBACK]);
        let AgentAuth::Token { file } = config.eks_auth.agent_auth.clone() else { panic!() };
        std::fs::remove_file(&file).unwrap();
        let (agent, admin) = serve(config).await;
        assert_ne!(credentials(agent, &token()).await.status, 200);
        assert_eq!(ready(admin).await.0, 503, "the agent's token is missing");

        std::fs::write(&file, "agents.own.token").unwrap();
        assert_eq!(check_error(&credentials(agent, &token()).await), code);
        assert_eq!(ready(admin).await.0, ready_then, "{code}");
    }
}

#[tokio::test]
async fn not_ready_until_configured_keys_are_fetched() {
    let (eks_auth, directory) = (fake_eks_auth(Behaviour::Hangs).await, tempfile::tempdir().unwrap());
    let file = directory.path().join("jwks.json");
    let issuer = Issuer::new("https://a.test", "http://127.0.0.1:1", KeyAlgorithm::Es256).unwrap();
    let (hand, clock) = Clock::manual(clock::now());
    let keys = TokenKeys::Configured(vec![IssuerConfig {
        issuer: issuer.issuer().to_owned(),
        keys: KeyLocation::File(file.clone()),
        bearer_token_file: None,
        outbound: Outbound::default(),
    }]);
    let (_, admin) = serve(Config { keys, clock, ..config(eks_auth.address, &[LOOPBACK]) }).await;
    assert_eq!(ready(admin).await, (503, "keys: no keys yet of the issuer https://a.test\n".to_owned()));

    std::fs::write(&file, issuer.jwks()).unwrap();
    eventually("the keys are read", || async {
        hand.advance(Duration::from_secs(2));
        (ready(admin).await.0 == 200).then_some(())
    })
    .await;
    std::fs::remove_file(&file).unwrap();
    hand.advance(crate::agent::refetch_interval());
    assert_eq!(ready(admin).await.0, 200, "old keys stay in use");
}
