//! Token verification with real keys and signatures, and with forged tokens.

mod claims;
mod keys;
mod signature;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pod_identity_core::identity::{Node, Pod};
use pod_identity_core::token::{Expected, KeySet, PodToken, TokenError, VerifiedToken, verify};
use serde_json::{Value, json};

use crate::signing::{Key, jwks};

const ISSUER: &str = "https://oidc.pod-identity.test/demo";
const AUDIENCE: &str = "pods.eks.amazonaws.com";
const NOW: u64 = 1_795_327_200;

fn now() -> SystemTime {
    at(NOW)
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns the claims of a pod token with a lifetime of a day (kubernetes `pkg/serviceaccount/claims.go`).
fn claims() -> Value {
    json!({
        "aud": [AUDIENCE],
        "exp": NOW + 86_400,
        "iat": NOW,
        "iss": ISSUER,
        "jti": "1d0a3f5e-0000-4000-8000-000000000004",
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "node-1", "uid": "5b7d3f5e-0000-4000-8000-000000000003"},
            "pod": {"name": "cart-1", "uid": "9e3a3f5e-0000-4000-8000-000000000002"},
            "serviceaccount": {"name": "cart", "uid": "2f1c3f5e-0000-4000-8000-000000000001"},
        },
        "nbf": NOW,
        "sub": "system:serviceaccount:shop:cart",
    })
}

fn key_set(keys: &[&Key]) -> KeySet {
    KeySet::from_jwks(&jwks(&keys.iter().map(|key| key.jwk()).collect::<Vec<_>>())).unwrap()
}

fn check(key: &Key, token: &str) -> Result<VerifiedToken, TokenError> {
    check_with(&key_set(&[key]), token, now())
}

fn check_with(keys: &KeySet, token: &str, now: SystemTime) -> Result<VerifiedToken, TokenError> {
    let expected = Expected { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned() };
    verify(&PodToken::parse(token)?, keys, &expected, now)
}

/// Returns a correctly signed token with changed claims.
fn with_claims(key: &Key, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = claims();
    change(&mut claims);
    key.sign(&key.header(), &claims)
}

fn without(object: &mut Value, member: &str) {
    object.as_object_mut().unwrap().remove(member).expect("the field does not exist");
}

#[test]
fn accepts_pod_token_of_each_algorithm() {
    for key in [Key::rsa("a"), Key::p256("a"), Key::p384("a")] {
        let token = key.sign(&key.header(), &claims());
        let verified = check(&key, &token).unwrap();
        assert_eq!(verified.identity.issuer, ISSUER);
        assert_eq!(verified.identity.subject(), "system:serviceaccount:shop:cart");
        assert_eq!(
            verified.identity.pod,
            Pod {
                name: "cart-1".parse().unwrap(),
                uid: "9e3a3f5e-0000-4000-8000-000000000002".parse().unwrap(),
            }
        );
        assert_eq!(verified.identity.service_account_uid.as_str(), "2f1c3f5e-0000-4000-8000-000000000001");
        assert_eq!(
            verified.node,
            Some(Node {
                name: "node-1".parse().unwrap(),
                uid: Some("5b7d3f5e-0000-4000-8000-000000000003".parse().unwrap()),
            })
        );
        assert_eq!(verified.expires_at, at(NOW + 86_400));
        assert_eq!(verified.token_id.as_deref(), Some("1d0a3f5e-0000-4000-8000-000000000004"));
        let token = PodToken::parse(&token).unwrap();
        assert_eq!(token.unverified_identity().unwrap(), (&verified.identity, verified.expires_at));
        assert_eq!(token.unverified_issuer(), ISSUER);
    }
}
