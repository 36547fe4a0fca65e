use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::KeyPair;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::{Node, Pod};
use pod_identity_core::token::{
    BearerToken, Expected, KeySet, KeySetError, TokenError, VerifiedToken, claimed_identity, verify,
};
use pod_identity_local::issuer::{Issuer, KeyAlgorithm, TokenRequest, forgery};
use proptest::prelude::*;
use serde_json::{Value, json};

const ISSUER: &str = "https://oidc.pod-identity.test/demo";
const AUDIENCE: &str = "pods.eks.amazonaws.com";
const NOW: u64 = 1_795_327_200;

fn now() -> SystemTime {
    at(NOW)
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn issuer(algorithm: KeyAlgorithm) -> Issuer {
    Issuer::new(ISSUER, "http://127.0.0.1:1/demo", algorithm).unwrap()
}

fn request() -> TokenRequest {
    TokenRequest {
        namespace: "shop".parse().unwrap(),
        service_account: "cart".parse().unwrap(),
        service_account_uid: "2f1c3f5e-0000-4000-8000-000000000001".parse().unwrap(),
        pod: Some(Pod {
            name: "cart-1".parse().unwrap(),
            uid: "9e3a3f5e-0000-4000-8000-000000000002".parse().unwrap(),
        }),
        node: Some(Node {
            name: "node-1".parse().unwrap(),
            uid: Some("5b7d3f5e-0000-4000-8000-000000000003".parse().unwrap()),
        }),
        audiences: vec![AUDIENCE.to_owned()],
        issued_at: now(),
        not_before: now(),
        expires_at: at(NOW + 86_400),
    }
}

fn keys(issuer: &Issuer) -> KeySet {
    KeySet::from_jwks(&jwks(issuer)).unwrap()
}

/// The key set as the issuer serves it.
fn jwks(issuer: &Issuer) -> Vec<u8> {
    let (parts, ()) = http::Request::get("/demo/openid/v1/jwks").body(()).unwrap().into_parts();
    issuer.handle(&parts).into_body().to_vec()
}

fn check(issuer: &Issuer, token: &str) -> Result<VerifiedToken, TokenError> {
    check_at(issuer, token, now())
}

fn check_at(issuer: &Issuer, token: &str, now: SystemTime) -> Result<VerifiedToken, TokenError> {
    let expected = Expected { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned() };
    verify(&BearerToken::parse(token).unwrap(), &keys(issuer), &expected, now)
}

/// A token that is signed as it should be and says something else.
fn saying(issuer: &Issuer, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = issuer.claims(&request());
    change(&mut claims);
    issuer.sign(&header(issuer).to_string(), &claims.to_string()).unwrap()
}

fn header(issuer: &Issuer) -> Value {
    issuer.signing_key().header()
}

#[test]
fn a_pods_token_is_accepted_under_each_algorithm() {
    for algorithm in [KeyAlgorithm::Rs256, KeyAlgorithm::Es256, KeyAlgorithm::Es384] {
        let issuer = issuer(algorithm);
        let token = issuer.mint(&request()).unwrap();
        let verified = check(&issuer, &token).unwrap();
        assert_eq!(verified.identity.issuer, ISSUER);
        assert_eq!(verified.identity.subject(), "system:serviceaccount:shop:cart");
        assert_eq!(verified.identity.pod, request().pod.unwrap());
        assert_eq!(verified.identity.service_account_uid, request().service_account_uid);
        assert_eq!(verified.node, request().node);
        assert_eq!(verified.expires_at, at(NOW + 86_400));
        assert!(verified.token_id.is_some());
        let claimed = claimed_identity(&BearerToken::parse(&token).unwrap()).unwrap();
        assert_eq!(claimed, (verified.identity, verified.expires_at));
    }
}

#[test]
fn an_audience_may_be_a_string() {
    let issuer = issuer(KeyAlgorithm::Es256);
    assert!(check(&issuer, &saying(&issuer, |claims| claims["aud"] = json!(AUDIENCE))).is_ok());
}

#[test]
fn a_forged_signature_is_refused() {
    let issuer = issuer(KeyAlgorithm::Rs256);
    let (header, claims) = (header(&issuer), issuer.claims(&request()));
    let good = issuer.mint(&request()).unwrap();

    let mut other_pod = claims.clone();
    other_pod["kubernetes.io"]["pod"]["uid"] = json!("another");
    let altered = forgery::with_signature_of(&good, &header.to_string(), &other_pod.to_string());
    assert_eq!(check(&issuer, &altered), Err(TokenError::SignatureInvalid));

    let mut none = header.clone();
    none["alg"] = json!("none");
    assert!(BearerToken::parse(&forgery::unsigned(&none.to_string(), &claims.to_string())).is_err());
    let none = forgery::with_signature_of(&good, &none.to_string(), &claims.to_string());
    assert_eq!(check(&issuer, &none), Err(TokenError::AlgorithmRefused { algorithm: "none".to_owned() }));

    let mut shared = header.clone();
    shared["alg"] = json!("HS256");
    for secret in [issuer.signing_key().public_der().to_vec(), issuer.signing_key().public_pem().into_bytes()]
    {
        let token = forgery::hs256(&shared.to_string(), &claims.to_string(), &secret);
        assert_eq!(
            check(&issuer, &token),
            Err(TokenError::AlgorithmRefused { algorithm: "HS256".to_owned() })
        );
    }

    let mut unsupported = header.clone();
    for alg in ["RS384", "PS256", "ES512", "EdDSA", "rs256"] {
        unsupported["alg"] = json!(alg);
        let token = issuer.sign(&unsupported.to_string(), &claims.to_string()).unwrap();
        assert_eq!(check(&issuer, &token), Err(TokenError::AlgorithmRefused { algorithm: alg.to_owned() }));
    }
}

#[test]
fn an_algorithm_that_is_not_the_keys_own_is_refused() {
    let rsa = issuer(KeyAlgorithm::Rs256);
    let mut swapped = header(&rsa);
    swapped["alg"] = json!("ES256");
    let token = rsa.sign(&swapped.to_string(), &rsa.claims(&request()).to_string()).unwrap();
    assert_eq!(check(&rsa, &token), Err(TokenError::AlgorithmNotOfKey { token: "ES256", key: "RS256" }));

    // A key of another kind under the victim's key id.
    let ec = issuer(KeyAlgorithm::Es256);
    let mut stolen_id = header(&ec);
    stolen_id["kid"] = header(&rsa)["kid"].clone();
    let token = ec.sign(&stolen_id.to_string(), &ec.claims(&request()).to_string()).unwrap();
    assert_eq!(check(&rsa, &token), Err(TokenError::AlgorithmNotOfKey { token: "ES256", key: "RS256" }));

    // And of the same kind.
    let other = issuer(KeyAlgorithm::Rs256);
    let token = other.sign(&header(&rsa).to_string(), &other.claims(&request()).to_string()).unwrap();
    assert_eq!(check(&rsa, &token), Err(TokenError::SignatureInvalid));
}

#[test]
fn a_header_that_asks_for_more_than_is_understood_is_refused() {
    let issuer = issuer(KeyAlgorithm::Es256);
    let signed =
        |header: Value| issuer.sign(&header.to_string(), &issuer.claims(&request()).to_string()).unwrap();
    let mut critical = header(&issuer);
    critical["crit"] = json!(["exp"]);
    assert_eq!(check(&issuer, &signed(critical)), Err(TokenError::CriticalExtension));

    let mut nameless = header(&issuer);
    nameless.as_object_mut().unwrap().remove("kid");
    assert_eq!(check(&issuer, &signed(nameless.clone())), Err(TokenError::KeyIdMissing));
    nameless["kid"] = json!("");
    assert_eq!(check(&issuer, &signed(nameless)), Err(TokenError::KeyIdMissing));

    let mut unknown = header(&issuer);
    unknown["kid"] = json!("x".repeat(4000));
    let error = check(&issuer, &signed(unknown)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenKeyUnknown);
    assert!(error.code().is_retryable(), "a key may be new");
    assert!(error.to_string().len() < 200, "a long key id must not flood the log");
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let issuer = issuer(KeyAlgorithm::Es256);
    let claims = issuer.claims(&request()).to_string();
    let header = header(&issuer).to_string();
    let twice = claims.replacen('{', r#"{"sub":"system:serviceaccount:kube-system:admin","#, 1);
    let token = issuer.sign(&header, &twice).unwrap();
    assert_eq!(
        check(&issuer, &token),
        Err(TokenError::DuplicateKey { part: "payload", key: "sub".to_owned() })
    );
    let nested = claims.replacen(r#""namespace":"#, r#""namespace":"kube-system","namespace":"#, 1);
    assert!(matches!(
        check(&issuer, &issuer.sign(&header, &nested).unwrap()),
        Err(TokenError::DuplicateKey { part: "payload", .. })
    ));
    let twice = header.replacen('{', r#"{"alg":"none","#, 1);
    let token = issuer.sign(&twice, &claims).unwrap();
    assert_eq!(
        check(&issuer, &token),
        Err(TokenError::DuplicateKey { part: "header", key: "alg".to_owned() })
    );
}

#[test]
fn issuer_and_audience_must_be_exact() {
    let issuer = issuer(KeyAlgorithm::Es256);
    for other in [
        format!("{ISSUER}/"),
        "https://oidc.pod-identity.test".to_owned(),
        ISSUER.to_uppercase(),
        String::new(),
    ] {
        let token = saying(&issuer, |claims| claims["iss"] = json!(other));
        assert!(matches!(check(&issuer, &token), Err(TokenError::IssuerWrong { .. })), "{other}");
    }
    for other in
        [json!([]), json!("sts.amazonaws.com"), json!([AUDIENCE, "vault"]), json!([AUDIENCE, AUDIENCE])]
    {
        let token = saying(&issuer, |claims| claims["aud"] = other.clone());
        assert!(matches!(check(&issuer, &token), Err(TokenError::AudienceWrong { .. })), "{other}");
    }
}

#[test]
fn times_are_kept_to_the_second() {
    let issuer = issuer(KeyAlgorithm::Es256);
    let token = issuer.mint(&request()).unwrap();
    assert!(check_at(&issuer, &token, at(NOW + 86_399)).is_ok());
    assert_eq!(
        check_at(&issuer, &token, at(NOW + 86_400)),
        Err(TokenError::Expired { ago: 0, exp: NOW + 86_400 })
    );
    assert_eq!(check_at(&issuer, &token, at(NOW + 86_430)).unwrap_err().code(), ErrorCode::TokenExpired);
    // The leeway for a clock that is behind the API server's: one minute.
    assert!(check_at(&issuer, &token, at(NOW - 60)).is_ok());
    assert_eq!(check_at(&issuer, &token, at(NOW - 61)), Err(TokenError::NotYetValid { ahead: 61, nbf: NOW }));
    let without_nbf = saying(&issuer, |claims| drop(claims.as_object_mut().unwrap().remove("nbf")));
    assert_eq!(
        check_at(&issuer, &without_nbf, at(NOW - 61)),
        Err(TokenError::IssuedInFuture { ahead: 61, iat: NOW })
    );
    let endless = saying(&issuer, |claims| claims["exp"] = json!(u64::MAX));
    assert_eq!(check(&issuer, &endless).unwrap_err().code(), ErrorCode::TokenMalformed);
}

#[test]
fn a_claim_that_is_missing_or_of_another_type_is_refused() {
    let issuer = issuer(KeyAlgorithm::Es256);
    for claim in ["iss", "sub", "aud", "exp", "iat"] {
        let token = saying(&issuer, |claims| drop(claims.as_object_mut().unwrap().remove(claim)));
        assert!(
            matches!(check(&issuer, &token), Err(TokenError::Malformed { part: "payload", .. })),
            "{claim}"
        );
        let token = saying(&issuer, |claims| claims[claim] = json!({"a": 1}));
        assert!(
            matches!(check(&issuer, &token), Err(TokenError::Malformed { part: "payload", .. })),
            "{claim}"
        );
    }
    let fraction = saying(&issuer, |claims| claims["exp"] = json!(1.5e12));
    assert!(matches!(check(&issuer, &fraction), Err(TokenError::Malformed { .. })));
}

#[test]
fn a_token_must_be_bound_to_a_pod_and_agree_with_itself() {
    let issuer = issuer(KeyAlgorithm::Es256);
    let unbound = TokenRequest { pod: None, node: None, ..request() };
    assert_eq!(check(&issuer, &issuer.mint(&unbound).unwrap()), Err(TokenError::NotPodBound));
    let plain = saying(&issuer, |claims| drop(claims.as_object_mut().unwrap().remove("kubernetes.io")));
    assert_eq!(check(&issuer, &plain), Err(TokenError::NotPodBound));

    let other = saying(&issuer, |claims| claims["sub"] = json!("system:serviceaccount:kube-system:cart"));
    assert_eq!(check(&issuer, &other), Err(TokenError::SubjectMismatch));
    let other = saying(&issuer, |claims| claims["kubernetes.io"]["namespace"] = json!("kube-system"));
    assert_eq!(check(&issuer, &other), Err(TokenError::SubjectMismatch));
    let impossible = saying(&issuer, |claims| claims["kubernetes.io"]["namespace"] = json!("shop:cart"));
    assert!(matches!(check(&issuer, &impossible), Err(TokenError::InvalidName(_))));
}

#[test]
fn old_keys_verify_until_they_are_withdrawn() {
    let issuer = issuer(KeyAlgorithm::Es256);
    let before = issuer.mint(&request()).unwrap();
    let old = issuer.signing_key().kid().to_owned();
    issuer.rotate(KeyAlgorithm::Rs256).unwrap();
    assert!(check(&issuer, &before).is_ok());
    assert!(check(&issuer, &issuer.mint(&request()).unwrap()).is_ok());
    assert!(issuer.withdraw(&old));
    assert_eq!(check(&issuer, &before), Err(TokenError::KeyUnknown { key_id: old }));
}

#[test]
fn keys_that_cannot_be_used_are_refused_by_name() {
    let issuer = issuer(KeyAlgorithm::Es256);
    let token = issuer.mint(&request()).unwrap();
    let kid = issuer.signing_key().kid().to_owned();
    let change = |change: &dyn Fn(&mut Value)| {
        let mut set: Value = serde_json::from_slice(&jwks(&issuer)).unwrap();
        let mut changed = set["keys"][0].clone();
        change(&mut changed);
        // A second, good key keeps the set alive.
        set["keys"][0]["kid"] = json!("another");
        set["keys"].as_array_mut().unwrap().push(changed);
        let keys = KeySet::from_jwks(set.to_string().as_bytes()).unwrap();
        let expected = Expected { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned() };
        verify(&BearerToken::parse(&token).unwrap(), &keys, &expected, now())
    };
    assert!(change(&|_| {}).is_ok());
    let p521 = change(&|key| key["crv"] = json!("P-521")).unwrap_err();
    assert!(p521.to_string().contains("P-521") && p521.to_string().contains(&kid), "{p521}");
    for broken in [
        change(&|key| key["use"] = json!("enc")),
        change(&|key| key["alg"] = json!("ES384")),
        change(&|key| key["kty"] = json!("oct")),
        change(&|key| key["crv"] = json!("P-9")),
    ] {
        assert!(matches!(broken, Err(TokenError::KeyUnusable { .. })), "{broken:?}");
    }
    assert!(matches!(
        change(&|key| drop(key.as_object_mut().unwrap().remove("kid"))),
        Err(TokenError::KeyUnknown { .. })
    ));
}

#[test]
fn a_set_without_a_usable_key_is_no_key_set() {
    for text in ["", "{}", "[]", r#"{"keys":1}"#, r#"{"keys":[],"keys":[]}"#] {
        assert!(matches!(KeySet::from_jwks(text.as_bytes()), Err(KeySetError::Malformed(_))), "{text}");
    }
    let small = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let modulus = small.public_key().modulus().big_endian_without_leading_zero()[..128].to_vec();
    let encode =
        |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let jwk = json!({"kty": "RSA", "kid": "small", "n": encode(&modulus), "e": "AQAB"});
    for keys in [json!([]), json!([jwk])] {
        let error = KeySet::from_jwks(json!({"keys": keys}).to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, KeySetError::NoUsableKey { .. }), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// THREATS A1: no change to a token, wherever and whatever, yields an accepted one.
    #[test]
    fn no_altered_token_is_accepted(place in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.-]") {
        use std::sync::OnceLock;
        static GOOD: OnceLock<(Issuer, String)> = OnceLock::new();
        let (issuer, good) = GOOD.get_or_init(|| {
            let issuer = issuer(KeyAlgorithm::Es256);
            let token = issuer.mint(&request()).unwrap();
            (issuer, token)
        });
        let place = place.index(good.len());
        let mut altered = good.clone();
        altered.replace_range(place..=place, &byte);
        if let Ok(token) = BearerToken::parse(&altered) {
            let expected = Expected { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned() };
            let result = verify(&token, &keys(issuer), &expected, now());
            prop_assert!(altered == *good || result.is_err(), "accepted: {altered}");
        }
    }

    #[test]
    fn no_text_makes_the_verifier_panic(header in ".{0,200}", payload in ".{0,200}") {
        use base64::Engine as _;
        let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let issuer = issuer(KeyAlgorithm::Es256);
        let text = format!("{}.{}.c2ln", encode(&header), encode(&payload));
        if let Ok(token) = BearerToken::parse(&text) {
            let expected = Expected { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned() };
            prop_assert!(verify(&token, &keys(&issuer), &expected, now()).is_err());
        }
    }
}
