//! Fetching of an issuer's keys from real servers.

use std::sync::Arc;
use std::time::Duration;

use pod_identity_core::cluster::Cluster;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::service::{
    Clock, CredentialError, CredentialRequest, CredentialService, CredentialSource, IssueFuture,
    ServiceConfig, VerifiedPod,
};
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_local::services::Workload;
use pod_identity_runtime::clock;
use pod_identity_runtime::issuer_keys::{FetchError, IssuerConfig, KeyFetcher, KeyLocation};
use pod_identity_runtime::outbound::{Outbound, OutboundError};
use serde_json::json;
use testing::authority::Authority;
use testing::eventually::eventually;

use crate::servers::{Documents, server_tls};

const ISSUER: &str = "https://oidc.pod-identity.test/demo";

fn issuer() -> Issuer {
    Issuer::new(ISSUER, "http://127.0.0.1:1/demo", KeyAlgorithm::Es256).unwrap()
}

fn config(issuer: &str, keys: KeyLocation) -> IssuerConfig {
    IssuerConfig { issuer: issuer.to_owned(), keys, bearer_token_file: None, outbound: Outbound::default() }
}

fn keys_at(documents: &Documents) -> KeyLocation {
    KeyLocation::Url(format!("http://{}/keys", documents.address))
}

fn pod() -> Workload {
    Workload::new("shop".parse().unwrap(), "cart".parse().unwrap(), "cart-1".parse().unwrap()).unwrap()
}

fn token(issuer: &Issuer) -> String {
    let request = pod().token_request(clock::now(), Duration::from_secs(600));
    issuer.mint(&request).unwrap()
}

/// A service that verifies tokens with fetched keys.
#[derive(Clone)]
struct Verifier(CredentialService);

impl Verifier {
    fn new(config: IssuerConfig, clock: Clock) -> Self {
        let issuer = KeyFetcher::new(config).unwrap().into_issuer();
        let cluster = Cluster::new("demo".parse().unwrap());
        let service = CredentialService::builder(UnusedSource).cluster(cluster, issuer).clock(clock);
        Self(service.build().unwrap())
    }

    async fn verify(&self, token: &str) -> Result<VerifiedPod, CredentialError> {
        self.0.verify(&"demo".parse().unwrap(), token).await
    }
}

struct UnusedSource;

impl CredentialSource for UnusedSource {
    fn issue<'a>(&'a self, _: &'a CredentialRequest) -> IssueFuture<'a> {
        unreachable!("tokens are only verified here")
    }
}

fn refetch_interval() -> Duration {
    ServiceConfig::default().key_refetch
}

/// Makes a token of a key that is not published.
fn invented(issuer: &Issuer, number: usize) -> String {
    let header = json!({"alg": "ES256", "kid": format!("invented-{number}")}).to_string();
    let claims = issuer.claims(&pod().token_request(clock::now(), Duration::from_secs(600))).to_string();
    issuer.sign(&header, &claims).unwrap()
}

#[tokio::test]
async fn fetches_once_for_a_flood_of_unknown_key_ids() {
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    documents.serve("/keys", issuer.jwks());
    let verifier = Verifier::new(config(ISSUER, keys_at(&documents)), Clock::default());
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..500 {
        let (verifier, token) = (verifier.clone(), invented(&issuer, number));
        requests.spawn(async move { verifier.verify(&token).await });
    }
    while let Some(result) = requests.join_next().await {
        let error = result.unwrap().unwrap_err();
        // Retryable, because the key may be published by then. The code is not "invalid".
        assert_eq!(error.code(), ErrorCode::TokenKeyUnknown);
        assert!(error.code().is_retryable());
    }
    assert_eq!(documents.requests(), 1);
    assert!(verifier.verify(&token(&issuer)).await.is_ok());
    assert_eq!(documents.requests(), 1);
}

#[tokio::test]
async fn hanging_issuer_blocks_only_256_requests() {
    const MAX_WAITING: usize = 256;
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    documents.serve("/keys", issuer.jwks());
    let (control, clock) = Clock::manual(clock::now());
    let verifier = Verifier::new(config(ISSUER, keys_at(&documents)), clock);
    assert!(verifier.verify(&token(&issuer)).await.is_ok());
    control.advance(refetch_interval());
    documents.open(false);
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..MAX_WAITING + 100 {
        let (verifier, token) = (verifier.clone(), invented(&issuer, number));
        requests.spawn(async move { verifier.verify(&token).await });
    }
    // Further requests are refused while the issuer hangs.
    for _ in 0..100 {
        let error = requests.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.code(), ErrorCode::TokenKeyUnknown, "{error}");
    }
    tokio::task::yield_now().await;
    assert!(requests.try_join_next().is_none(), "the other requests do not wait");
    // A token of a known key does not wait for a fetch.
    assert!(verifier.verify(&token(&issuer)).await.is_ok());
    assert_eq!(requests.len(), MAX_WAITING);
    documents.open(true);
    while let Some(result) = requests.join_next().await {
        assert_eq!(result.unwrap().unwrap_err().code(), ErrorCode::TokenKeyUnknown);
    }
    assert_eq!(documents.requests(), 2);
}

#[tokio::test]
async fn new_key_within_the_interval_is_unknown_and_not_invalid() {
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    documents.serve("/keys", issuer.jwks());
    let verifier = Verifier::new(config(ISSUER, keys_at(&documents)), Clock::default());
    assert!(verifier.verify(&token(&issuer)).await.is_ok());
    issuer.rotate(KeyAlgorithm::Es256).unwrap();
    documents.serve("/keys", issuer.jwks());
    let error = verifier.verify(&token(&issuer)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenKeyUnknown, "{error}");
    assert_eq!(documents.requests(), 1);
}

#[tokio::test]
async fn uses_the_first_fetch_that_succeeds() {
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    let verifier = Verifier::new(config(ISSUER, keys_at(&documents)), Clock::default());
    let error = verifier.verify(&token(&issuer)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenKeyUnknown, "{error}");
    documents.serve("/keys", issuer.jwks());
    // The next attempt is due after 2 s.
    eventually("the keys are fetched", || async { verifier.verify(&token(&issuer)).await.ok() }).await;
    assert_eq!(documents.requests(), 2);
}

/// An issuer over TLS, with a discovery document of the test.
async fn discovered(authority: &Authority) -> (Arc<Documents>, IssuerConfig) {
    let documents = Documents::start(Some(server_tls(authority))).await;
    let url = format!("https://{}", documents.address);
    let mut config = config(&url, KeyLocation::Discovery);
    config.outbound.ca_file = Some(authority.ca_file());
    (documents, config)
}

fn discovery(issuer: &str, jwks_uri: &str) -> String {
    json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string()
}

const DISCOVERY: &str = "/.well-known/openid-configuration";

#[tokio::test]
async fn private_authority_is_trusted_only_if_configured() {
    let authority = Authority::new();
    let (documents, with) = discovered(&authority).await;
    documents.serve(DISCOVERY, discovery(&with.issuer, &format!("{}/keys", with.issuer)));
    documents.serve("/keys", issuer().jwks());
    KeyFetcher::new(with.clone()).unwrap().fetch().await.unwrap();

    let without = IssuerConfig { outbound: Outbound::default(), ..with };
    let before = documents.requests();
    let error = KeyFetcher::new(without).unwrap().fetch().await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert_eq!(documents.requests(), before);
}

#[tokio::test]
async fn discovery_document_of_another_issuer_is_refused() {
    let authority = Authority::new();
    let (documents, config) = discovered(&authority).await;
    documents.serve("/keys", issuer().jwks());
    let jwks = format!("{}/keys", config.issuer);
    for other in [format!("{}/", config.issuer), config.issuer.replace("https", "HTTPS"), String::new()] {
        documents.serve(DISCOVERY, discovery(&other, &jwks));
        let error = KeyFetcher::new(config.clone()).unwrap().fetch().await.unwrap_err();
        assert!(matches!(error, FetchError::Discovery { .. }), "{other}: {error}");
    }
    documents.serve(DISCOVERY, json!([config.issuer, jwks]).to_string());
    let error = KeyFetcher::new(config).unwrap().fetch().await.unwrap_err();
    assert!(matches!(error, FetchError::Discovery { .. }), "an array: {error}");
    assert!(documents.bearers("/keys").is_empty());
}

#[tokio::test]
async fn bearer_token_is_sent_only_to_the_issuers_own_server() {
    let authority = Authority::new();
    let (documents, mut config) = discovered(&authority).await;
    let other_server = Documents::start(None).await;
    let file = authority.directory().join("token");
    std::fs::write(&file, "secret\n").unwrap();
    config.bearer_token_file = Some(file);
    for server in [&documents, &other_server] {
        server.serve("/keys", issuer().jwks());
    }
    let bearer = Some("Bearer secret".to_owned());

    let jwks = format!("http://{}/keys", other_server.address);
    documents.serve(DISCOVERY, discovery(&config.issuer, &jwks));
    KeyFetcher::new(config.clone()).unwrap().fetch().await.unwrap();
    assert_eq!(documents.bearers(DISCOVERY), std::slice::from_ref(&bearer));
    assert_eq!(other_server.bearers("/keys"), [None]);

    documents.serve(DISCOVERY, discovery(&config.issuer, &format!("{}/keys", config.issuer)));
    KeyFetcher::new(config).unwrap().fetch().await.unwrap();
    assert_eq!(documents.bearers("/keys"), [bearer]);
}

#[tokio::test]
async fn jwks_uri_over_http_on_another_machine_is_refused() {
    let authority = Authority::new();
    let (documents, config) = discovered(&authority).await;
    documents.serve(DISCOVERY, discovery(&config.issuer, "http://10.0.0.1/keys"));
    let error = KeyFetcher::new(config).unwrap().fetch().await.unwrap_err();
    assert!(error.to_string().contains("loopback addresses only"), "{error}");
}

#[tokio::test]
async fn discovered_keys_are_fetched_only_over_https() {
    let authority = Authority::new();
    let (documents, config) = discovered(&authority).await;
    let other_server = Documents::start(None).await;
    for server in [&documents, &other_server] {
        server.serve("/keys", issuer().jwks());
    }
    let plain = format!("http://{}", other_server.address);
    for issuer in [plain.as_str(), "http://localhost", "ftp://127.0.0.1", "kubernetes/serviceaccount", ""] {
        let refused = KeyFetcher::discovered(issuer.to_owned(), config.outbound.clone());
        assert!(matches!(refused, Err(OutboundError::Url { .. })), "{issuer}");
    }
    let fetcher = KeyFetcher::discovered(config.issuer.clone(), config.outbound.clone()).unwrap();
    documents.serve(DISCOVERY, discovery(&config.issuer, &format!("{plain}/keys")));
    let error = fetcher.fetch().await.unwrap_err();
    assert!(error.to_string().contains("want https"), "{error}");
    assert_eq!(other_server.requests(), 0);

    documents.serve(DISCOVERY, discovery(&config.issuer, &format!("{}/keys", config.issuer)));
    fetcher.fetch().await.unwrap();
    assert_eq!(documents.bearers("/keys"), [None]);
}

#[tokio::test]
async fn client_that_hangs_up_does_not_end_the_fetch() {
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    documents.serve("/keys", issuer.jwks());
    let verifier = Verifier::new(config(ISSUER, keys_at(&documents)), Clock::default());
    let token = token(&issuer);
    // Polled once, then dropped.
    assert!(tokio::time::timeout(Duration::ZERO, verifier.verify(&token)).await.is_err());
    eventually("the keys are fetched", || async { (documents.requests() == 1).then_some(()) }).await;
    assert!(verifier.verify(&token).await.is_ok());
    assert_eq!(documents.requests(), 1);
}
