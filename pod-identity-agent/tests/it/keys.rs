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
use pod_identity_core::service::{Clock, Hand};
use pod_identity_core::token::{Expected, KeySet, POD_IDENTITY_AUDIENCE, PodToken, verify};
use pod_identity_local::issuer::{Issuer, KeyAlgorithm, forgery};
use pod_identity_local::laptop::Workload;
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

use crate::agent::{LOOPBACK, check_refusal, config, credentials, granted, pod};

const DAY: Duration = Duration::from_secs(86_400);
const SESSION: Duration = Duration::from_secs(6 * 3600);

/// An issuer with a server that counts requests.
struct Published {
    /// The claim `iss` of its tokens.
    url: String,
    issuer: Issuer,
    asked: AtomicUsize,
}

impl Handler for Published {
    async fn handle(&self, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.issuer.handle(&request.into_parts().0).map(Full::new)
    }
}

impl Published {
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
        let published = Arc::new(Self { url, issuer, asked: AtomicUsize::new(0) });
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

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// An EKS Auth that verifies tokens.
struct EksAuth {
    issuers: Vec<Arc<Published>>,
    clock: Clock,
    calls: AtomicUsize,
    refused: AtomicUsize,
    away: AtomicBool,
}

impl EksAuth {
    fn answer(&self, body: &[u8]) -> (u16, &'static str, String) {
        if self.away.load(Ordering::SeqCst) {
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
                let (namespace, service_account) = (&token.identity.namespace, &token.identity.service_account);
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

impl Handler for EksAuth {
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
struct Stand {
    agent: SocketAddr,
    admin: SocketAddr,
    eks_auth: Arc<EksAuth>,
    clock: Clock,
    hand: Mutex<Hand>,
}

impl Stand {
    async fn start(issuers: &[&Arc<Published>], keys: TokenKeys) -> Self {
        let (hand, clock) = Clock::by_hand(clock::now());
        let eks_auth = Arc::new(EksAuth {
            issuers: issuers.iter().copied().cloned().collect(),
            clock: clock.clone(),
            calls: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            away: AtomicBool::new(false),
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
    async fn learning(issuers: &[&Arc<Published>], authority: &Authority) -> Self {
        Self::start(issuers, TokenKeys::Learned(trusting(authority))).await
    }

    async fn ask(&self, token: &str) -> Result<(), (u16, String)> {
        let answer = credentials(self.agent, token).await;
        if answer.status == 200 { Ok(()) } else { Err((answer.status, check_refusal(&answer))) }
    }

    fn calls(&self) -> usize {
        self.eks_auth.calls.load(Ordering::SeqCst)
    }

    fn take_eks_auth_away(&self, away: bool) {
        self.eks_auth.away.store(away, Ordering::SeqCst);
    }

    fn advance(&self, time: Duration) {
        self.hand.lock().unwrap().advance(time);
    }

    async fn judges_by_keys(&self) -> bool {
        let metrics = ask(self.admin, "GET /metrics", &[], b"").await.unwrap().text();
        let value = metrics.lines().find_map(|line| line.strip_prefix("pod_identity_tokens_judged_by_keys "));
        value.unwrap_or_else(|| panic!("{metrics}")) == "1"
    }

    async fn learns(&self) {
        eventually("keys are learned", || async { self.judges_by_keys().await.then_some(()) }).await;
    }
}

fn trusting(authority: &Authority) -> Outbound {
    Outbound { ca_file: Some(authority.ca_file()), proxy_from_environment: false }
}

fn refused(status: u16, code: &str) -> Result<(), (u16, String)> {
    Err((status, code.to_owned()))
}

#[tokio::test]
async fn an_accepted_token_teaches_the_keys_and_a_rotated_one_is_served_while_eks_auth_is_away() {
    testing::logs::remember();
    let authority = Authority::new();
    let issuer = Published::start(Some(&authority)).await;
    let stand = Stand::learning(&[&issuer], &authority).await;
    let (pod, other) = (pod(), pod());
    assert!(!stand.judges_by_keys().await);
    assert_eq!(stand.ask(&issuer.token(&pod, &stand.clock)).await, Ok(()));
    stand.learns().await;
    assert_eq!(issuer.asked(), 2, "the discovery document and the keys");

    stand.take_eks_auth_away(true);
    for _ in 0..3 {
        assert_eq!(stand.ask(&issuer.token(&pod, &stand.clock)).await, Ok(()));
    }
    assert_eq!(stand.calls(), 1);
    // Keys verify a token, but new credentials need EKS Auth.
    assert_eq!(stand.ask(&issuer.token(&other, &stand.clock)).await, refused(503, "upstream_unavailable"));
    assert_eq!(testing::logs::lines_with(&["verified here from now on", &issuer.url]).len(), 1);
}

#[tokio::test]
async fn a_token_that_nobody_accepted_teaches_nothing_and_neither_does_http() {
    let authority = Authority::new();
    let (refused_one, plain) = (Published::start(Some(&authority)).await, Published::start(None).await);
    let accepted = Published::start(Some(&authority)).await;
    let stand = Stand::learning(&[&plain, &accepted], &authority).await;
    let pod = pod();
    assert_eq!(stand.ask(&refused_one.token(&pod, &stand.clock)).await, refused(400, "token_refused"));
    assert_eq!(stand.ask(&plain.token(&pod, &stand.clock)).await, Ok(()));
    assert_eq!(stand.ask(&accepted.token(&pod, &stand.clock)).await, Ok(()));
    stand.learns().await;
    assert_eq!((refused_one.asked(), plain.asked(), accepted.asked()), (0, 0, 2));
    assert_eq!(stand.calls(), 3);
}

#[tokio::test]
async fn tokens_of_a_second_issuer_are_judged_by_eks_auth() {
    let authority = Authority::new();
    let (first, second) =
        (Published::start(Some(&authority)).await, Published::start(Some(&authority)).await);
    let stand = Stand::learning(&[&first, &second], &authority).await;
    let pod = pod();
    assert_eq!(stand.ask(&first.token(&pod, &stand.clock)).await, Ok(()));
    stand.learns().await;
    for calls in 2..4 {
        assert_eq!(stand.ask(&second.token(&pod, &stand.clock)).await, Ok(()));
        assert_eq!(stand.calls(), calls);
    }
    assert_eq!(second.asked(), 0);
    assert_eq!(stand.ask(&first.token(&pod, &stand.clock)).await, Ok(()));
    assert_eq!(stand.calls(), 3);
}

#[tokio::test]
async fn learned_keys_refuse_what_they_refute_and_leave_the_rest_to_eks_auth() {
    let authority = Authority::new();
    let (issuer, forger) = (Published::start(Some(&authority)).await, Published::start(None).await);
    let stand = Stand::learning(&[&issuer], &authority).await;
    let pod = pod();
    let old = issuer.token(&pod, &stand.clock);
    assert_eq!(stand.ask(&old).await, Ok(()));
    stand.learns().await;

    let header = issuer.issuer.signing_key().header().to_string();
    let claims = issuer.claims(&pod, &stand.clock).to_string();
    let forged = forger.issuer.sign(&header, &claims).unwrap();
    assert_eq!(stand.ask(&forged).await, refused(400, "token_signature_invalid"));
    let altered = forgery::with_signature_of(&old, &header, &claims);
    assert_eq!(stand.ask(&altered).await, refused(400, "token_signature_invalid"));
    stand.advance(DAY);
    assert_eq!(stand.ask(&old).await, refused(400, "token_expired"));
    assert_eq!(stand.calls(), 1);

    // EKS Auth decides about an unknown key and about another audience.
    let header = forger.issuer.signing_key().header().to_string();
    let unknown = forger.issuer.sign(&header, &issuer.claims(&pod, &stand.clock).to_string()).unwrap();
    assert_eq!(stand.ask(&unknown).await, refused(400, "token_refused"));
    let mut claims = issuer.claims(&pod, &stand.clock);
    claims["aud"] = json!(["sts.amazonaws.com"]);
    let header = issuer.issuer.signing_key().header().to_string();
    let elsewhere = issuer.issuer.sign(&header, &claims.to_string()).unwrap();
    assert_eq!(stand.ask(&elsewhere).await, refused(400, "token_refused"));
    assert_eq!(stand.calls(), 3);
}

#[tokio::test]
async fn a_new_key_is_learned_from_the_first_accepted_token_that_it_signed() {
    let authority = Authority::new();
    let issuer = Published::start(Some(&authority)).await;
    let stand = Stand::learning(&[&issuer], &authority).await;
    let pod = pod();
    assert_eq!(stand.ask(&issuer.token(&pod, &stand.clock)).await, Ok(()));
    stand.learns().await;
    issuer.issuer.rotate(KeyAlgorithm::Es256).unwrap();
    stand.advance(crate::agent::refetch_interval());
    assert_eq!(issuer.asked(), 2, "no token of the new key was accepted");
    assert_eq!(stand.ask(&issuer.token(&pod, &stand.clock)).await, Ok(()));
    eventually("the keys are fetched again", || async { (issuer.asked() == 4).then_some(()) }).await;
    assert_eq!(stand.calls(), 2);
    eventually("the new key verifies", || async {
        let before = stand.calls();
        assert_eq!(stand.ask(&issuer.token(&pod, &stand.clock)).await, Ok(()));
        (stand.calls() == before).then_some(())
    })
    .await;
}

/// Withdraws the key of a first token and waits until the agent has fetched the new keys. Returns that token.
async fn after_a_withdrawal(stand: &Stand, issuer: &Published, pod: &Workload) -> String {
    let old = issuer.token(pod, &stand.clock);
    assert_eq!(stand.ask(&old).await, Ok(()));
    stand.learns().await;
    let key = issuer.issuer.signing_key();
    issuer.issuer.rotate(KeyAlgorithm::Es256).unwrap();
    assert!(issuer.issuer.withdraw(key.kid()));
    stand.take_eks_auth_away(true);
    assert_eq!(stand.ask(&old).await, Ok(()), "valid until the keys are fetched again");
    let asked = issuer.asked();
    stand.advance(Duration::from_secs(300));
    eventually("the keys are fetched again", || async { (issuer.asked() == asked + 2).then_some(()) }).await;
    // The credentials are cached, so a token of the new key needs no call.
    eventually("the new key verifies", || async { stand.ask(&issuer.token(pod, &stand.clock)).await.ok() })
        .await;
    old
}

fn configured(issuer: &Published, authority: &Authority) -> TokenKeys {
    TokenKeys::Configured(vec![IssuerConfig {
        issuer: issuer.url.clone(),
        keys: KeyLocation::Discovery,
        bearer_token_file: None,
        outbound: trusting(authority),
    }])
}

#[tokio::test]
async fn tokens_of_each_configured_issuer_are_verified_with_its_own_keys() {
    let authority = Authority::new();
    let (new, old) = (Published::start(Some(&authority)).await, Published::start(Some(&authority)).await);
    let other = Published::start(Some(&authority)).await;
    let of = |issuer: &Published| match configured(issuer, &authority) {
        TokenKeys::Configured(configs) => configs,
        _ => unreachable!(),
    };
    let keys = TokenKeys::Configured([of(&new), of(&old)].concat());
    let (stand, pod) = (Stand::start(&[&new, &old], keys).await, pod());
    assert_eq!(stand.ask(&new.token(&pod, &stand.clock)).await, Ok(()));
    assert_eq!(stand.ask(&old.token(&pod, &stand.clock)).await, Ok(()));
    let calls = stand.calls();
    stand.take_eks_auth_away(true);
    for issuer in [&new, &old] {
        assert_eq!(stand.ask(&issuer.token(&pod, &stand.clock)).await, Ok(()), "verified by the agent, and cached");
    }
    assert_eq!(stand.ask(&other.token(&pod, &stand.clock)).await, refused(403, "token_issuer_wrong"));
    // A token of one issuer that is signed with the key of the other is refused.
    let header = new.issuer.signing_key().header().to_string();
    let mixed = new.issuer.sign(&header, &old.claims(&pod, &stand.clock).to_string()).unwrap();
    assert_eq!(stand.ask(&mixed).await, refused(503, "token_key_unknown"));
    assert_eq!((stand.calls(), other.asked()), (calls, 0));
}

#[tokio::test]
async fn nothing_is_renewed_with_a_token_of_a_withdrawn_key() {
    let authority = Authority::new();
    let issuer = Published::start(Some(&authority)).await;
    let (stand, pod) = (Stand::start(&[&issuer], configured(&issuer, &authority)).await, pod());
    assert_eq!(stand.ask(&issuer.token(&pod, &stand.clock)).await, Ok(()));
    let key = issuer.issuer.signing_key();
    issuer.issuer.rotate(KeyAlgorithm::Es256).unwrap();
    assert!(issuer.issuer.withdraw(key.kid()));
    let asked = issuer.asked();
    stand.advance(Duration::from_secs(300));
    eventually("the keys are fetched again", || async { (issuer.asked() == asked + 2).then_some(()) }).await;
    // After half of their lifetime the credentials are due for renewal, and the recorded token is the old one.
    stand.advance(SESSION.mul_f64(0.6));
    for _ in 0..100 {
        tokio::task::yield_now().await; // lets the agent run
    }
    eventually("the renewal uses the new token", || async {
        assert_eq!(stand.ask(&issuer.token(&pod, &stand.clock)).await, Ok(()));
        stand.advance(Duration::from_secs(1));
        (stand.calls() == 2).then_some(())
    })
    .await;
    assert_eq!(stand.eks_auth.refused.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn configured_keys_refuse_a_token_of_a_withdrawn_key_and_its_credentials_stay() {
    let authority = Authority::new();
    let issuer = Published::start(Some(&authority)).await;
    let (stand, pod) = (Stand::start(&[&issuer], configured(&issuer, &authority)).await, pod());
    let old = after_a_withdrawal(&stand, &issuer, &pod).await;
    assert_eq!(stand.ask(&old).await, refused(503, "token_key_unknown"));
    assert_eq!(stand.calls(), 1);
}

#[tokio::test]
async fn learned_keys_leave_a_token_of_a_withdrawn_key_to_eks_auth_and_its_credentials_stay() {
    let authority = Authority::new();
    let issuer = Published::start(Some(&authority)).await;
    let (stand, pod) = (Stand::learning(&[&issuer], &authority).await, pod());
    let old = after_a_withdrawal(&stand, &issuer, &pod).await;
    stand.take_eks_auth_away(false);
    let calls = stand.calls();
    assert_eq!(stand.ask(&old).await, refused(400, "token_refused"));
    assert_eq!(stand.calls(), calls + 1);
    assert_eq!(stand.ask(&issuer.token(&pod, &stand.clock)).await, Ok(()));
    assert_eq!(stand.calls(), calls + 1);
}
