//! Checks of claims and times.

use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::Node;
use pod_identity_core::token::{PodToken, TokenError};
use serde_json::{Value, json};

use super::{AUDIENCE, ISSUER, NOW, at, check, check_with, claims, key_set, with_claims, without};
use crate::signing::Key;

#[test]
fn audience_may_be_a_string() {
    let key = Key::p256("a");
    assert!(check(&key, &with_claims(&key, |claims| claims["aud"] = json!(AUDIENCE))).is_ok());
}

#[test]
fn issuer_and_audience_must_be_exact() {
    let key = Key::p256("a");
    for other in [
        format!("{ISSUER}/"),
        "https://oidc.pod-identity.test".to_owned(),
        ISSUER.to_uppercase(),
        String::new(),
    ] {
        let token = with_claims(&key, |claims| claims["iss"] = json!(other));
        assert!(matches!(check(&key, &token), Err(TokenError::IssuerWrong { .. })), "{other}");
    }
    for other in
        [json!([]), json!("sts.amazonaws.com"), json!([AUDIENCE, "vault"]), json!([AUDIENCE, AUDIENCE])]
    {
        let token = with_claims(&key, |claims| claims["aud"] = other.clone());
        assert!(matches!(check(&key, &token), Err(TokenError::AudienceWrong { .. })), "{other}");
    }
}

#[test]
fn legacy_token_is_refused_with_an_alternative() {
    let key = Key::p256("a");
    let claims = json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "shop",
        "kubernetes.io/serviceaccount/secret.name": "cart-token-x2x5z",
        "kubernetes.io/serviceaccount/service-account.name": "cart",
        "kubernetes.io/serviceaccount/service-account.uid": "7b8c2f7e-0d6b-4c1f-9d0b-0a4b6d3c7c1e",
        "sub": "system:serviceaccount:shop:cart",
    });
    let token = key.sign(&key.header(), &claims);
    let error = check(&key, &token).unwrap_err();
    assert_eq!((&error, error.code()), (&TokenError::Legacy, ErrorCode::TokenNotPodBound));
    assert!(error.to_string().contains("projected"), "{error}");
}

#[test]
fn times_are_exact_to_the_second() {
    let key = Key::p256("a");
    let keys = key_set(&[&key]);
    let check_at = |token: &str, seconds| check_with(&keys, token, at(seconds));
    let token = key.sign(&key.header(), &claims());
    assert!(check_at(&token, NOW + 86_399).is_ok());
    assert_eq!(check_at(&token, NOW + 86_400), Err(TokenError::Expired { ago: 0, exp: NOW + 86_400 }));
    assert_eq!(check_at(&token, NOW + 86_430), Err(TokenError::Expired { ago: 30, exp: NOW + 86_400 }));
    // The leeway for a clock that is behind the API server's is one minute.
    assert!(check_at(&token, NOW - 60).is_ok());
    assert_eq!(check_at(&token, NOW - 61), Err(TokenError::NotYetValid { ahead: 61, nbf: NOW }));
    let without_nbf = with_claims(&key, |claims| without(claims, "nbf"));
    assert!(check_at(&without_nbf, NOW - 60).is_ok());
    assert_eq!(check_at(&without_nbf, NOW - 61), Err(TokenError::IssuedInFuture { ahead: 61, iat: NOW }));
    let endless = with_claims(&key, |claims| claims["exp"] = json!(u64::MAX));
    assert_eq!(check(&key, &endless).unwrap_err().code(), ErrorCode::TokenMalformed);
}

#[test]
fn rejects_missing_claim_and_claim_of_another_type() {
    let key = Key::p256("a");
    for claim in ["iss", "sub", "aud", "exp", "iat"] {
        for token in [
            with_claims(&key, |claims| without(claims, claim)),
            with_claims(&key, |claims| claims[claim] = json!({"a": 1})),
        ] {
            assert!(
                matches!(check(&key, &token), Err(TokenError::Malformed { part: "payload", .. })),
                "{claim}"
            );
        }
    }
    let fraction = with_claims(&key, |claims| claims["exp"] = json!(1.5e12));
    assert!(matches!(check(&key, &fraction), Err(TokenError::Malformed { .. })));
}

#[test]
fn token_must_be_bound_to_a_pod_and_must_not_contradict_itself() {
    let key = Key::p256("a");
    let unbound = with_claims(&key, |claims| without(&mut claims["kubernetes.io"], "pod"));
    assert_eq!(check(&key, &unbound), Err(TokenError::NotPodBound));
    let plain = with_claims(&key, |claims| without(claims, "kubernetes.io"));
    assert_eq!(check(&key, &plain), Err(TokenError::NotPodBound));

    let other = with_claims(&key, |claims| claims["sub"] = json!("system:serviceaccount:kube-system:cart"));
    assert_eq!(check(&key, &other), Err(TokenError::SubjectMismatch));
    let other = with_claims(&key, |claims| claims["kubernetes.io"]["namespace"] = json!("kube-system"));
    assert_eq!(check(&key, &other), Err(TokenError::SubjectMismatch));
    let impossible = with_claims(&key, |claims| claims["kubernetes.io"]["namespace"] = json!("shop:cart"));
    assert!(matches!(check(&key, &impossible), Err(TokenError::InvalidName(_))));
}

#[test]
fn node_may_be_missing_or_have_no_uid_but_needs_a_valid_name() {
    let key = Key::p256("a");
    let without_node = with_claims(&key, |claims| without(&mut claims["kubernetes.io"], "node"));
    assert_eq!(check(&key, &without_node).unwrap().node, None);
    let gone = with_claims(&key, |claims| without(&mut claims["kubernetes.io"]["node"], "uid"));
    let node = Node { name: "node-1".parse().unwrap(), uid: None };
    assert_eq!(check(&key, &gone).unwrap().node, Some(node));
    let impossible = with_claims(&key, |claims| claims["kubernetes.io"]["node"]["name"] = json!("a/b"));
    assert!(matches!(check(&key, &impossible), Err(TokenError::InvalidName(_))));
}

#[test]
fn rejects_array_in_place_of_object_in_header_and_payload() {
    let key = Key::p256("a");
    let members = |object: &Value| object.as_object().unwrap().values().cloned().collect::<Value>();
    // The values in the order of the fields of the types, which serde accepts for the object.
    let header = json!(["ES256", "a", null]);
    let error = check(&key, &key.sign(&header, &claims())).unwrap_err();
    assert!(matches!(error, TokenError::Malformed { part: "header", .. }), "{error:?}");
    let kubernetes = |claims: &Value| {
        let of = &claims["kubernetes.io"];
        json!([of["namespace"], of["serviceaccount"], of["pod"], of["node"]])
    };
    for token in [
        with_claims(&key, |claims| {
            let of = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"].map(|claim| claims[claim].clone());
            *claims = of.into_iter().chain([claims["kubernetes.io"].clone()]).collect();
        }),
        with_claims(&key, |claims| claims["kubernetes.io"] = kubernetes(claims)),
        with_claims(&key, |claims| claims["kubernetes.io"]["pod"] = members(&claims["kubernetes.io"]["pod"])),
        with_claims(&key, |claims| {
            claims["kubernetes.io"]["node"] = members(&claims["kubernetes.io"]["node"]);
        }),
        with_claims(&key, |claims| {
            claims["kubernetes.io"]["serviceaccount"] = members(&claims["kubernetes.io"]["serviceaccount"]);
        }),
    ] {
        let error = check(&key, &token).unwrap_err();
        assert!(matches!(error, TokenError::Malformed { part: "payload", .. }), "{error:?}");
        assert_eq!(PodToken::parse(&token).unwrap_err(), error);
    }
}
