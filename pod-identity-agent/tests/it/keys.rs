//! Key discovery, and keys that issuers withdraw: over TLS, with a manual clock.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use pod_identity_agent::app::App;
use pod_identity_agent::config::TokenKeys;
use pod_identity_core::service::{Clock, ClockControl};
use pod_identity_core::token::{Expected, KeySet, POD_IDENTITY_AUDIENCE, PodToken, verify};
use pod_identity_local::issuer::{Issuer, KeyAlgorithm, forgery};
use pod_identity_local::services::Workload;
use pod_identity_runtime::clock;
use pod_identity_runtime::http::{answer, read_body};
use pod_identity_runtime::issuer_keys::{IssuerConfig, KeyLocation};
use pod_identity_runtime::listener::{Handler, Listener, Peer};
use pod_identity_runtime::outbound::Outbound;
use pod_identity_runtime::shutdown::Shutdown;
use pod_identity_runtime::tls::{CertificateFiles, ServerTls, TlsVersion};
use serde_json::{Value, json};
use testing::authority::Authority;
use testing::eventually::eventually;
use testing::wire::ask;

use crate::agent::{LOOPBACK, check_error, config, credentials, granted, pod};

const DAY: Duration = Duration::from_secs(86_400);
const SESSION: Duration = Duration::from_secs(6 * 3600);

/// An issuer with a server that counts requests.
struct IssuerServer {
    /// The claim `iss` of its tokens.
    url: String,
    issuer: Issuer,
    requests: AtomicUsize,
}

impl Handler for IssuerServer {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.issuer.handle(&request.into_parts().0).map(Full::new)
    }
}

impl IssuerServer {
    async fn start(tls: Option<&Authority>) -> Arc<Self> {
        let mut listener = Listener::bind(SocketAddr::new(LOOPBACK, 0)).await.unwrap();
        let address = listener.address().unwrap();
        let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
        if let Some(authority) = tls {
            authority.write_pair();
            let (certificate, key) = (authority.certificate_file(), authority.key_file());
            let files = CertificateFiles { certificate, key };
            listener = listener.with_tls(ServerTls::read(files, TlsVersion::default()).unwrap());
        }
        let issuer = Issuer::new(&format!("https://{address}"), &url, KeyAlgorithm::Es256).unwrap();
        let published = Arc::new(Self { url, issuer, requests: AtomicUsize::new(0) });
        tokio::spawn(listener.serve(published.clone(), Shutdown::never()));
        published
    }

    fn claims(&self, pod: &Workload, clock: &Clock) -> Value {
        let mut claims = self.issuer.claims(&pod.token_request(clock.now().wall, DAY));
        claims["iss"] = json!(self.url);
        claims
    }

    fn token(&self, pod: &Workload, clock: &Clock) -> String {
        let header = self.issuer.signing_key().header().to_string();
        self.issuer.sign(&header, &self.claims(pod, clock).to_string()).unwrap()
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// An EKS Auth that verifies tokens.
struct VerifyingEksAuth {
    issuers: Vec<Arc<IssuerServer>>,
    clock: Clock,
    calls: AtomicUsize,
    refused: AtomicUsize,
    down: AtomicBool,
}

impl VerifyingEksAuth {
    fn answer(&self, body: &[u8]) -> (u16, &'static str, String) {
        if self.down.load(Ordering::SeqCst) {
            return (503, "ServiceUnavailableException", "{}".to_owned());
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        let token = PodToken::parse(body["token"].as_str().unwrap()).unwrap();
        let verified = self.issuers.iter().find_map(|issuer| {
            let keys = KeySet::from_jwks(&issuer.issuer.jwks()).unwrap();
            let expected =
                Expected { issuer: issuer.url.clone(), audience: POD_IDENTITY_AUDIENCE.to_owned() };
            verify(&token, &keys, &expected, self.clock.now().wall).ok()
        });
        match verified {
            Some(token) => {
                let (namespace, service_account) =
                    (&token.identity.namespace, &token.identity.service_account);
                let granted = granted(namespace.as_str(), service_account.as_str());
                let mut granted: Value = serde_json::from_str(&granted).unwrap();
                let end = self.clock.now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap() + SESSION;
                granted["credentials"]["expiration"] = json!(end.as_secs());
                (200, "", granted.to_string())
            }
            None => {
                self.refused.fetch_add(1, Ordering::SeqCst);
                (400, "InvalidTokenException", "{}".to_owned())
            }
        }
    }
}

impl Handler for VerifyingEksAuth {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let (status, kind, body) = self.answer(&read_body(request.into_body(), 32 * 1024).await.unwrap());
        let mut response = answer(StatusCode::from_u16(status).unwrap(), "application/json", body.into());
        if !kind.is_empty() {
            response.headers_mut().insert("x-amzn-errortype", kind.parse().unwrap());
        }
        response
    }
}

/// An agent, its EKS Auth, and the clock of both.
struct TestAgent {
    agent: SocketAddr,
    admin: SocketAddr,
    eks_auth: Arc<VerifyingEksAuth>,
    clock: Clock,
    hand: Mutex<ClockControl>,
}

impl TestAgent {
    async fn start(issuers: &[&Arc<IssuerServer>], keys: TokenKeys) -> Self {
        let (hand, clock) = Clock::manual(clock::now());
        let eks_auth = Arc::new(VerifyingEksAuth {
            issuers: issuers.iter().copied().cloned().collect(),
            clock: clock.clone(),
            calls: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            down: AtomicBool::new(false),
        });
        let listener = Listener::bind(SocketAddr::new(LOOPBACK, 0)).await.unwrap();
        let mut config = config(listener.address().unwrap(), &[LOOPBACK]);
        tokio::spawn(listener.serve(eks_auth.clone(), Shutdown::never()));
        (config.keys, config.clock) = (keys, clock.clone());
        let app = App::bind(config).await.unwrap();
        let (agent, admin) = (app.addresses()[0], app.admin_addresses()[0]);
        tokio::spawn(app.run(Shutdown::never()));
        Self { agent, admin, eks_auth, clock, hand: Mutex::new(hand) }
    }

    /// Starts an agent that discovers keys and trusts this CA.
    async fn learning(issuers: &[&Arc<IssuerServer>], authority: &Authority) -> Self {
        Self::start(issuers, TokenKeys::Learned(trusting(authority))).await
    }

    async fn fetch(&self, token: &str) -> Result<(), (u16, String)> {
        let answer = credentials(self.agent, token).await;
        if answer.status == 200 { Ok(()) } else { Err((answer.status, check_error(&answer))) }
    }

    fn calls(&self) -> usize {
        self.eks_auth.calls.load(Ordering::SeqCst)
    }

    fn set_eks_auth_down(&self, down: bool) {
        self.eks_auth.down.store(down, Ordering::SeqCst);
    }

    fn advance(&self, time: Duration) {
        self.hand.lock().unwrap().advance(time);
    }

    async fn verifies_with_keys(&self) -> bool {
        let metrics = ask(self.admin, "GET /metrics", &[], b"").await.unwrap().text();
        let value = metrics.lines().find_map(|line| line.strip_prefix("pod_identity_tokens_judged_by_keys "));
        value.unwrap_or_else(|| panic!("{metrics}")) == "1"
    }

    async fn wait_for_keys(&self) {
        eventually("keys are learned", || async { self.verifies_with_keys().await.then_some(()) }).await;
    }
}

fn trusting(authority: &Authority) -> Outbound {
    Outbound { ca_file: Some(authority.ca_file()), proxy_from_environment: false }
}

fn refused(status: u16, code: &str) -> Result<(), (u16, String)> {
    Err((status, code.to_owned()))
}

#[tokio::test]
async fn learns_keys_from_an_accepted_token_and_serves_a_rotated_one_while_eks_auth_is_down() {
    testing::logs::capture();
    let authority = Authority::new();
    let issuer = IssuerServer::start(Some(&authority)).await;
    let agent = TestAgent::learning(&[&issuer], &authority).await;
    let (pod, other) = (pod(), pod());
    assert!(!agent.verifies_with_keys().await);
    assert_eq!(agent.fetch(&issuer.token(&pod, &agent.clock)).await, Ok(()));
    agent.wait_for_keys().await;
    assert_eq!(issuer.requests(), 2, "the discovery document and the keys");

    agent.set_eks_auth_down(true);
    for _ in 0..3 {
        assert_eq!(agent.fetch(&issuer.token(&pod, &agent.clock)).await, Ok(()));
    }
    assert_eq!(agent.calls(), 1);
    // Keys verify a token, but new credentials need EKS Auth.
    assert_eq!(agent.fetch(&issuer.token(&other, &agent.clock)).await, refused(503, "upstream_unavailable"));
    assert_eq!(testing::logs::lines_with(&["verified here from now on", &issuer.url]).len(), 1);
}

#[tokio::test]
async fn does_not_learn_keys_from_refused_tokens_or_over_http() {
    let authority = Authority::new();
    let (refused_issuer, plain) =
        (IssuerServer::start(Some(&authority)).await, IssuerServer::start(None).await);
    let accepted = IssuerServer::start(Some(&authority)).await;
    let agent = TestAgent::learning(&[&plain, &accepted], &authority).await;
    let pod = pod();
    assert_eq!(agent.fetch(&refused_issuer.token(&pod, &agent.clock)).await, refused(400, "token_refused"));
    assert_eq!(agent.fetch(&plain.token(&pod, &agent.clock)).await, Ok(()));
    assert_eq!(agent.fetch(&accepted.token(&pod, &agent.clock)).await, Ok(()));
    agent.wait_for_keys().await;
    assert_eq!((refused_issuer.requests(), plain.requests(), accepted.requests()), (0, 0, 2));
    assert_eq!(agent.calls(), 3);
}

#[tokio::test]
async fn eks_auth_decides_about_tokens_of_a_second_issuer() {
    let authority = Authority::new();
    let (first, second) =
        (IssuerServer::start(Some(&authority)).await, IssuerServer::start(Some(&authority)).await);
    let agent = TestAgent::learning(&[&first, &second], &authority).await;
    let pod = pod();
    assert_eq!(agent.fetch(&first.token(&pod, &agent.clock)).await, Ok(()));
    agent.wait_for_keys().await;
    for calls in 2..4 {
        assert_eq!(agent.fetch(&second.token(&pod, &agent.clock)).await, Ok(()));
        assert_eq!(agent.calls(), calls);
    }
    assert_eq!(second.requests(), 0);
    assert_eq!(agent.fetch(&first.token(&pod, &agent.clock)).await, Ok(()));
    assert_eq!(agent.calls(), 3);
}

#[tokio::test]
async fn learned_keys_refuse_invalid_tokens_and_leave_unknown_ones_to_eks_auth() {
    let authority = Authority::new();
    let (issuer, forger) = (IssuerServer::start(Some(&authority)).await, IssuerServer::start(None).await);
    let agent = TestAgent::learning(&[&issuer], &authority).await;
    let pod = pod();
    let old = issuer.token(&pod, &agent.clock);
    assert_eq!(agent.fetch(&old).await, Ok(()));
    agent.wait_for_keys().await;

    let header = issuer.issuer.signing_key().header().to_string();
    let claims = issuer.claims(&pod, &agent.clock).to_string();
    let forged = forger.issuer.sign(&header, &claims).unwrap();
    assert_eq!(agent.fetch(&forged).await, refused(400, "token_signature_invalid"));
    let altered = forgery::with_signature_of(&old, &header, &claims);
    assert_eq!(agent.fetch(&altered).await, refused(400, "token_signature_invalid"));
    agent.advance(DAY);
    assert_eq!(agent.fetch(&old).await, refused(400, "token_expired"));
    assert_eq!(agent.calls(), 1);

    // EKS Auth decides about an unknown key and about another audience.
    let header = forger.issuer.signing_key().header().to_string();
    let unknown = forger.issuer.sign(&header, &issuer.claims(&pod, &agent.clock).to_string()).unwrap();
    assert_eq!(agent.fetch(&unknown).await, refused(400, "token_refused"));
    let mut claims = issuer.claims(&pod, &agent.clock);
    claims["aud"] = json!(["sts.amazonaws.com"]);
    let header = issuer.issuer.signing_key().header().to_string();
    let elsewhere = issuer.issuer.sign(&header, &claims.to_string()).unwrap();
    assert_eq!(agent.fetch(&elsewhere).await, refused(400, "token_refused"));
    assert_eq!(agent.calls(), 3);
}

#[tokio::test]
async fn learns_a_new_key_from_its_first_accepted_token() {
    let authority = Authority::new();
    let issuer = IssuerServer::start(Some(&authority)).await;
    let agent = TestAgent::learning(&[&issuer], &authority).await;
    let pod = pod();
    assert_eq!(agent.fetch(&issuer.token(&pod, &agent.clock)).await, Ok(()));
    agent.wait_for_keys().await;
    issuer.issuer.rotate(KeyAlgorithm::Es256).unwrap();
    agent.advance(crate::agent::refetch_interval());
    assert_eq!(issuer.requests(), 2, "no token of the new key was accepted");
    assert_eq!(agent.fetch(&issuer.token(&pod, &agent.clock)).await, Ok(()));
    eventually("the keys are fetched again", || async { (issuer.requests() == 4).then_some(()) }).await;
    assert_eq!(agent.calls(), 2);
    eventually("the new key verifies", || async {
        let before = agent.calls();
        assert_eq!(agent.fetch(&issuer.token(&pod, &agent.clock)).await, Ok(()));
        (agent.calls() == before).then_some(())
    })
    .await;
}

/// Withdraws the key of a first token and waits until the agent has fetched the new keys. Returns that token.
async fn after_a_withdrawal(agent: &TestAgent, issuer: &IssuerServer, pod: &Workload) -> String {
    let old = issuer.token(pod, &agent.clock);
    assert_eq!(agent.fetch(&old).await, Ok(()));
    agent.wait_for_keys().await;
    let key = issuer.issuer.signing_key();
    issuer.issuer.rotate(KeyAlgorithm::Es256).unwrap();
    assert!(issuer.issuer.withdraw(key.kid()));
    agent.set_eks_auth_down(true);
    assert_eq!(agent.fetch(&old).await, Ok(()), "valid until the keys are fetched again");
    let requests = issuer.requests();
    agent.advance(Duration::from_secs(300));
    eventually("the keys are fetched again", || async { (issuer.requests() == requests + 2).then_some(()) })
        .await;
    // The credentials are cached, so a token of the new key needs no call.
    eventually("the new key verifies", || async { agent.fetch(&issuer.token(pod, &agent.clock)).await.ok() })
        .await;
    old
}

fn configured(issuer: &IssuerServer, authority: &Authority) -> TokenKeys {
    TokenKeys::Configured(vec![IssuerConfig {
        issuer: issuer.url.clone(),
        keys: KeyLocation::Discovery,
        bearer_token_file: None,
        outbound: trusting(authority),
    }])
}

#[tokio::test]
async fn verifies_tokens_of_each_configured_issuer_with_its_own_keys() {
    let authority = Authority::new();
    let (new, old) =
        (IssuerServer::start(Some(&authority)).await, IssuerServer::start(Some(&authority)).await);
    let other = IssuerServer::start(Some(&authority)).await;
    let of = |issuer: &IssuerServer| match configured(issuer, &authority) {
        TokenKeys::Configured(configs) => configs,
        _ => unreachable!(),
    };
    let keys = TokenKeys::Configured([of(&new), of(&old)].concat());
    let (agent, pod) = (TestAgent::start(&[&new, &old], keys).await, pod());
    assert_eq!(agent.fetch(&new.token(&pod, &agent.clock)).await, Ok(()));
    assert_eq!(agent.fetch(&old.token(&pod, &agent.clock)).await, Ok(()));
    let calls = agent.calls();
    agent.set_eks_auth_down(true);
    for issuer in [&new, &old] {
        assert_eq!(
            agent.fetch(&issuer.token(&pod, &agent.clock)).await,
            Ok(()),
            "verified by the agent, and cached"
        );
    }
    assert_eq!(agent.fetch(&other.token(&pod, &agent.clock)).await, refused(403, "token_issuer_wrong"));
    // A token of one issuer that is signed with the key of the other is refused.
    let header = new.issuer.signing_key().header().to_string();
    let mixed = new.issuer.sign(&header, &old.claims(&pod, &agent.clock).to_string()).unwrap();
    assert_eq!(agent.fetch(&mixed).await, refused(503, "token_key_unknown"));
    assert_eq!((agent.calls(), other.requests()), (calls, 0));
}

#[tokio::test]
async fn does_not_renew_with_a_token_of_a_withdrawn_key() {
    let authority = Authority::new();
    let issuer = IssuerServer::start(Some(&authority)).await;
    let (agent, pod) = (TestAgent::start(&[&issuer], configured(&issuer, &authority)).await, pod());
    assert_eq!(agent.fetch(&issuer.token(&pod, &agent.clock)).await, Ok(()));
    let key = issuer.issuer.signing_key();
    issuer.issuer.rotate(KeyAlgorithm::Es256).unwrap();
    assert!(issuer.issuer.withdraw(key.kid()));
    let requests = issuer.requests();
    agent.advance(Duration::from_secs(300));
    eventually("the keys are fetched again", || async { (issuer.requests() == requests + 2).then_some(()) })
        .await;
    // After half of their lifetime the credentials are due for renewal, and the recorded token is the old one.
    agent.advance(SESSION.mul_f64(0.6));
    for _ in 0..100 {
        tokio::task::yield_now().await; // lets the agent run
    }
    eventually("the renewal uses the new token", || async {
        assert_eq!(agent.fetch(&issuer.token(&pod, &agent.clock)).await, Ok(()));
        agent.advance(Duration::from_secs(1));
        (agent.calls() == 2).then_some(())
    })
    .await;
    assert_eq!(agent.eks_auth.refused.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn configured_keys_refuse_a_token_of_a_withdrawn_key_and_keep_credentials() {
    let authority = Authority::new();
    let issuer = IssuerServer::start(Some(&authority)).await;
    let (agent, pod) = (TestAgent::start(&[&issuer], configured(&issuer, &authority)).await, pod());
    let old = after_a_withdrawal(&agent, &issuer, &pod).await;
    assert_eq!(agent.fetch(&old).await, refused(503, "token_key_unknown"));
    assert_eq!(agent.calls(), 1);
}

#[tokio::test]
async fn learned_keys_leave_a_token_of_a_withdrawn_key_to_eks_auth_and_keep_credentials() {
    let authority = Authority::new();
    let issuer = IssuerServer::start(Some(&authority)).await;
    let (agent, pod) = (TestAgent::learning(&[&issuer], &authority).await, pod());
    let old = after_a_withdrawal(&agent, &issuer, &pod).await;
    agent.set_eks_auth_down(false);
    let calls = agent.calls();
    assert_eq!(agent.fetch(&old).await, refused(400, "token_refused"));
    assert_eq!(agent.calls(), calls + 1);
    assert_eq!(agent.fetch(&issuer.token(&pod, &agent.clock)).await, Ok(()));
    assert_eq!(agent.calls(), calls + 1);
}
