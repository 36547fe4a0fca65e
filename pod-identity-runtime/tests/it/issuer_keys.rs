//! Keys of an issuer: fetched from real servers, sparingly, and from nobody else.

use std::sync::Arc;
use std::time::Duration;

use pod_identity_core::error::ErrorCode;
use pod_identity_core::token::{BearerToken, POD_IDENTITY_AUDIENCE, TokenError, VerifiedToken};
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_local::laptop::Workload;
use pod_identity_runtime::clock::{self, Clock};
use pod_identity_runtime::issuer_keys::{
    FetchError, IssuerConfig, IssuerKeys, KeyLocation, MAX_WAITING, REFETCH_INTERVAL,
};
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

fn token(issuer: &Issuer) -> BearerToken {
    let request = pod().token_request(clock::now(), Duration::from_secs(600));
    BearerToken::parse(&issuer.mint(&request).unwrap()).unwrap()
}

async fn verify(keys: &Arc<IssuerKeys>, token: &BearerToken) -> Result<VerifiedToken, TokenError> {
    keys.verify(token, POD_IDENTITY_AUDIENCE, clock::now()).await
}

/// A token whose key nobody has.
fn invented(issuer: &Issuer, number: usize) -> BearerToken {
    let header = json!({"alg": "ES256", "kid": format!("invented-{number}")}).to_string();
    let claims = issuer.claims(&pod().token_request(clock::now(), Duration::from_secs(600))).to_string();
    BearerToken::parse(&issuer.sign(&header, &claims).unwrap()).unwrap()
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_is_one_fetch() {
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    documents.serve("/keys", issuer.jwks());
    let keys = IssuerKeys::new(config(ISSUER, keys_at(&documents))).unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..500 {
        let (keys, token) = (keys.clone(), invented(&issuer, number));
        asking.spawn(async move { verify(&keys, &token).await });
    }
    while let Some(result) = asking.join_next().await {
        let error = result.unwrap().unwrap_err();
        // Worth a retry: the key may be one that is published by then. Never "invalid".
        assert_eq!(error.code(), ErrorCode::TokenKeyUnknown);
        assert!(error.code().is_retryable());
    }
    assert_eq!(documents.asked(), 1);
    assert!(verify(&keys, &token(&issuer)).await.is_ok());
    assert_eq!(documents.asked(), 1);
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_only_so_many_requests() {
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    documents.serve("/keys", issuer.jwks());
    let (hand, clock) = Clock::by_hand(clock::now());
    let keys = IssuerKeys::with_clock(config(ISSUER, keys_at(&documents)), clock).unwrap();
    assert!(keys.fetch_if_due().await.unwrap());
    hand.advance(REFETCH_INTERVAL);
    documents.open(false);
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..MAX_WAITING + 100 {
        let (keys, token) = (keys.clone(), invented(&issuer, number));
        asking.spawn(async move { verify(&keys, &token).await });
    }
    // Those beyond are refused while the issuer has not answered.
    for _ in 0..100 {
        let error = asking.join_next().await.unwrap().unwrap().unwrap_err();
        assert!(matches!(error, TokenError::KeyUnknown { .. }), "{error}");
    }
    tokio::task::yield_now().await;
    assert!(asking.try_join_next().is_none(), "the others wait");
    // A token of a known key waits for nobody.
    assert!(verify(&keys, &token(&issuer)).await.is_ok());
    assert_eq!(asking.len(), MAX_WAITING);
    documents.open(true);
    while let Some(result) = asking.join_next().await {
        assert!(matches!(result.unwrap(), Err(TokenError::KeyUnknown { .. })));
    }
    assert_eq!(documents.asked(), 2);
    // Where no fetch is due nothing is begun either: the first poll has the answer.
    let due = tokio::time::timeout(Duration::ZERO, keys.fetch_if_due()).await;
    assert!(!due.unwrap().unwrap());
}

#[tokio::test]
async fn a_new_key_within_the_interval_is_unknown_and_not_invalid() {
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    documents.serve("/keys", issuer.jwks());
    let keys = IssuerKeys::new(config(ISSUER, keys_at(&documents))).unwrap();
    assert!(verify(&keys, &token(&issuer)).await.is_ok());
    issuer.rotate(KeyAlgorithm::Es256).unwrap();
    documents.serve("/keys", issuer.jwks());
    let error = verify(&keys, &token(&issuer)).await.unwrap_err();
    assert!(matches!(error, TokenError::KeyUnknown { .. }), "{error}");
    assert_eq!(documents.asked(), 1);
}

#[tokio::test]
async fn while_there_are_no_keys_a_token_is_unknown_and_the_first_fetch_that_works_is_used() {
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    let keys = IssuerKeys::new(config(ISSUER, keys_at(&documents))).unwrap();
    let error = verify(&keys, &token(&issuer)).await.unwrap_err();
    assert!(matches!(error, TokenError::KeysMissing), "{error}");
    documents.serve("/keys", issuer.jwks());
    // The next attempt is due after 2 s.
    eventually("the keys are fetched", || async { verify(&keys, &token(&issuer)).await.ok() }).await;
    assert_eq!(documents.asked(), 2);
}

/// An issuer over TLS, whose discovery document says what the test wants.
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
async fn a_private_authority_is_trusted_where_it_is_configured_only() {
    let authority = Authority::new();
    let (documents, with) = discovered(&authority).await;
    documents.serve(DISCOVERY, discovery(&with.issuer, &format!("{}/keys", with.issuer)));
    documents.serve("/keys", issuer().jwks());
    IssuerKeys::new(with.clone()).unwrap().fetch_if_due().await.unwrap();

    let without = IssuerConfig { outbound: Outbound::default(), ..with };
    let asked = documents.asked();
    let error = IssuerKeys::new(without).unwrap().fetch_if_due().await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert_eq!(documents.asked(), asked);
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_refused() {
    let authority = Authority::new();
    let (documents, config) = discovered(&authority).await;
    documents.serve("/keys", issuer().jwks());
    let jwks = format!("{}/keys", config.issuer);
    for other in [format!("{}/", config.issuer), config.issuer.replace("https", "HTTPS"), String::new()] {
        documents.serve(DISCOVERY, discovery(&other, &jwks));
        let keys = IssuerKeys::new(config.clone()).unwrap();
        let error = keys.fetch_if_due().await.unwrap_err();
        assert!(matches!(error, FetchError::Discovery { .. }), "{other}: {error}");
        assert!(keys.current().is_none());
    }
    documents.serve(DISCOVERY, json!([config.issuer, jwks]).to_string());
    let error = IssuerKeys::new(config).unwrap().fetch_if_due().await.unwrap_err();
    assert!(matches!(error, FetchError::Discovery { .. }), "an array: {error}");
    assert!(documents.bearers("/keys").is_empty());
}

#[tokio::test]
async fn the_bearer_token_goes_to_the_issuers_own_server_only() {
    let authority = Authority::new();
    let (documents, mut config) = discovered(&authority).await;
    let elsewhere = Documents::start(None).await;
    let file = authority.directory().join("token");
    std::fs::write(&file, "secret\n").unwrap();
    config.bearer_token_file = Some(file);
    for server in [&documents, &elsewhere] {
        server.serve("/keys", issuer().jwks());
    }
    let bearer = Some("Bearer secret".to_owned());

    let jwks = format!("http://{}/keys", elsewhere.address);
    documents.serve(DISCOVERY, discovery(&config.issuer, &jwks));
    IssuerKeys::new(config.clone()).unwrap().fetch_if_due().await.unwrap();
    assert_eq!(documents.bearers(DISCOVERY), std::slice::from_ref(&bearer));
    assert_eq!(elsewhere.bearers("/keys"), [None]);

    documents.serve(DISCOVERY, discovery(&config.issuer, &format!("{}/keys", config.issuer)));
    IssuerKeys::new(config).unwrap().fetch_if_due().await.unwrap();
    assert_eq!(documents.bearers("/keys"), [bearer]);
}

#[tokio::test]
async fn a_jwks_uri_over_http_off_this_machine_is_refused() {
    let authority = Authority::new();
    let (documents, config) = discovered(&authority).await;
    documents.serve(DISCOVERY, discovery(&config.issuer, "http://10.0.0.1/keys"));
    let error = IssuerKeys::new(config).unwrap().fetch_if_due().await.unwrap_err();
    assert!(error.to_string().contains("loopback addresses only"), "{error}");
}

#[tokio::test]
async fn learned_keys_come_over_https_alone_and_a_failure_is_said_once() {
    testing::logs::remember();
    let authority = Authority::new();
    let (documents, config) = discovered(&authority).await;
    let elsewhere = Documents::start(None).await;
    for server in [&documents, &elsewhere] {
        server.serve("/keys", issuer().jwks());
    }
    let plain = format!("http://{}", elsewhere.address);
    for issuer in [plain.as_str(), "http://localhost", "ftp://127.0.0.1", "kubernetes/serviceaccount", ""] {
        let refused = IssuerKeys::learned(issuer.to_owned(), config.outbound.clone(), Clock::default());
        assert!(matches!(refused, Err(OutboundError::Url { .. })), "{issuer}");
    }

    let (hand, clock) = Clock::by_hand(clock::now());
    let keys = IssuerKeys::learned(config.issuer.clone(), config.outbound.clone(), clock).unwrap();
    documents.serve(DISCOVERY, discovery(&config.issuer, &format!("{plain}/keys")));
    for fetched in 1..=3 {
        let error = keys.fetch_if_due().await.unwrap_err();
        assert!(error.to_string().contains("over https only"), "{error}");
        // Not even the first failure is followed up before half a minute.
        hand.advance(Duration::from_secs(29));
        assert!(!keys.fetch_if_due().await.unwrap());
        assert_eq!(documents.asked(), fetched);
        hand.advance(Duration::from_secs(1));
    }
    assert_eq!(elsewhere.asked(), 0);
    assert_eq!(testing::logs::lines_with(&["of the issuer of accepted tokens", &config.issuer]).len(), 1);

    documents.serve(DISCOVERY, discovery(&config.issuer, &format!("{}/keys", config.issuer)));
    assert!(keys.fetch_if_due().await.unwrap());
    assert_eq!(documents.bearers("/keys"), [None]);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_end_the_fetch_that_it_began() {
    let (issuer, documents) = (issuer(), Documents::start(None).await);
    documents.serve("/keys", issuer.jwks());
    let keys = IssuerKeys::new(config(ISSUER, keys_at(&documents))).unwrap();
    let token = token(&issuer);
    // Polled once, and gone.
    assert!(tokio::time::timeout(Duration::ZERO, verify(&keys, &token)).await.is_err());
    eventually("the keys are there", || async { keys.current() }).await;
    assert_eq!(documents.asked(), 1);
}
