//! Checks of signatures and algorithms.

use std::sync::OnceLock;

use pod_identity_core::error::ErrorCode;
use pod_identity_core::token::{BearerToken, KeySet, TokenError};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{check, check_with, claims, key_set, now, without};
use crate::signing::{Key, base64url, hs256, unsigned, with_signature_of};

#[test]
fn forged_signature_is_refused() {
    let key = Key::rsa("a");
    let good = key.sign(&key.header(), &claims());
    let header = |alg: &str| json!({"alg": alg, "kid": "a"});

    let mut other_pod = claims();
    other_pod["kubernetes.io"]["pod"]["uid"] = json!("another");
    let altered = with_signature_of(&good, &key.header(), &other_pod);
    assert_eq!(check(&key, &altered), Err(TokenError::SignatureInvalid));

    assert!(BearerToken::parse(&unsigned(&header("none"), &claims())).is_err());
    let none = with_signature_of(&good, &header("none"), &claims());
    assert_eq!(check(&key, &none), Err(TokenError::AlgorithmRefused { algorithm: "none".to_owned() }));

    for secret in key.public_as_secrets() {
        let refused = TokenError::AlgorithmRefused { algorithm: "HS256".to_owned() };
        assert_eq!(check(&key, &hs256(&header("HS256"), &claims(), &secret)), Err(refused));
        // Also with the algorithm of the key in the header.
        let disguised = hs256(&key.header(), &claims(), &secret);
        assert_eq!(check(&key, &disguised), Err(TokenError::SignatureInvalid));
    }

    for alg in ["RS384", "PS256", "ES512", "EdDSA", "rs256"] {
        let token = key.sign(&header(alg), &claims());
        assert_eq!(check(&key, &token), Err(TokenError::AlgorithmRefused { algorithm: alg.to_owned() }));
    }
}

#[test]
fn algorithm_of_another_key_type_is_refused() {
    let rsa = Key::rsa("a");
    let swapped = rsa.sign(&json!({"alg": "ES256", "kid": "a"}), &claims());
    assert_eq!(check(&rsa, &swapped), Err(TokenError::AlgorithmNotOfKey { token: "ES256", key: "RS256" }));

    // A key of another type with the same key id, and one of the same type.
    let ec = Key::p256("a");
    let stolen_id = ec.sign(&ec.header(), &claims());
    assert_eq!(check(&rsa, &stolen_id), Err(TokenError::AlgorithmNotOfKey { token: "ES256", key: "RS256" }));
    let other = Key::rsa("a");
    assert_eq!(check(&rsa, &other.sign(&other.header(), &claims())), Err(TokenError::SignatureInvalid));
}

#[test]
fn either_of_two_keys_with_one_id_verifies_with_its_own_algorithm() {
    let (rsa, ec, other) = (Key::rsa("a"), Key::p256("a"), Key::p256("a"));
    for keys in [key_set(&[&rsa, &ec]), key_set(&[&ec, &rsa])] {
        for key in [&rsa, &ec] {
            assert!(check_with(&keys, &key.sign(&key.header(), &claims()), now()).is_ok());
        }
        let token = other.sign(&other.header(), &claims());
        assert!(check_with(&keys, &token, now()).is_err());
    }
}

#[test]
fn header_with_unsupported_features_is_refused() {
    let key = Key::p256("a");
    let signed = |header: &Value| key.sign(header, &claims());
    let mut critical = key.header();
    critical["crit"] = json!(["exp"]);
    assert_eq!(check(&key, &signed(&critical)), Err(TokenError::CriticalExtension));

    let mut nameless = key.header();
    without(&mut nameless, "kid");
    assert_eq!(check(&key, &signed(&nameless)), Err(TokenError::KeyIdMissing));
    nameless["kid"] = json!("");
    assert_eq!(check(&key, &signed(&nameless)), Err(TokenError::KeyIdMissing));

    let mut unknown = key.header();
    unknown["kid"] = json!("x".repeat(4000));
    let error = check(&key, &signed(&unknown)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenKeyUnknown);
    assert!(error.code().is_retryable(), "an unknown key may be new");
    assert!(error.to_string().len() < 200, "a long key id must not flood the log");
}

#[test]
fn duplicate_key_is_refused() {
    let key = Key::p256("a");
    let (header, claims) = (key.header().to_string(), claims().to_string());
    let twice = claims.replacen('{', r#"{"sub":"system:serviceaccount:kube-system:admin","#, 1);
    assert_eq!(
        check(&key, &key.sign_text(&header, &twice)),
        Err(TokenError::DuplicateKey { part: "payload", key: "sub".to_owned() })
    );
    let nested = claims.replacen(r#""namespace":"#, r#""namespace":"kube-system","namespace":"#, 1);
    assert_eq!(
        check(&key, &key.sign_text(&header, &nested)),
        Err(TokenError::DuplicateKey { part: "payload", key: "namespace".to_owned() })
    );
    let twice = header.replacen('{', r#"{"alg":"none","#, 1);
    assert_eq!(
        check(&key, &key.sign_text(&twice, &claims)),
        Err(TokenError::DuplicateKey { part: "header", key: "alg".to_owned() })
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// SECURITY.md, A1: no changed byte of a token makes an accepted token.
    #[test]
    fn no_altered_token_is_accepted(place in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.-]") {
        static GOOD: OnceLock<(KeySet, String)> = OnceLock::new();
        let (keys, good) = GOOD.get_or_init(|| {
            let key = Key::p256("a");
            (key_set(&[&key]), key.sign(&key.header(), &claims()))
        });
        let place = place.index(good.len());
        let mut altered = good.clone();
        altered.replace_range(place..=place, &byte);
        if BearerToken::parse(&altered).is_ok() {
            let result = check_with(keys, &altered, now());
            prop_assert!(altered == *good || result.is_err(), "accepted: {altered}");
        }
    }

    #[test]
    fn verifier_does_not_panic_for_any_text(header in ".{0,200}", payload in ".{0,200}") {
        static KEYS: OnceLock<KeySet> = OnceLock::new();
        let keys = KEYS.get_or_init(|| key_set(&[&Key::p256("a")]));
        let text = format!("{}.{}.c2ln", base64url(header.as_bytes()), base64url(payload.as_bytes()));
        if BearerToken::parse(&text).is_ok() {
            prop_assert!(check_with(keys, &text, now()).is_err());
        }
    }
}
