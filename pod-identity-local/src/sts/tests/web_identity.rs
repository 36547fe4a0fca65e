//! `AssumeRoleWithWebIdentity`: sessions and errors.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pod_identity_core::token::KeySet;
use serde_json::{Value, json};

use super::client::*;
use crate::sts::Sts;

const ISSUER: &str = "https://oidc.example/id/A";

struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn keys(&self) -> KeySet {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        let jwk =
            json!({"kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig", "x": x, "y": y});
        KeySet::from_jwks(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap()
    }

    fn token(&self, changes: &Value) -> String {
        let mut claims = json!({
            "iss": ISSUER, "sub": "system:serviceaccount:shop:web", "aud": ["sts.amazonaws.com"],
            "iat": NOW.as_secs(), "nbf": NOW.as_secs(), "exp": NOW.as_secs() + 600
        });
        for (claim, value) in changes.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": "k1"})), encode(&claims));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn with_issuer() -> (Sts, Issuer) {
    let issuer = Issuer::new();
    let keys = Arc::new(issuer.keys());
    (sts().issuer_keys(move |url| (url == ISSUER).then(|| keys.clone())), issuer)
}

fn assume(sts: &Sts, role: &str, token: &str) -> StsResponse {
    let parameters = [("RoleArn", role), ("RoleSessionName", "pod-1"), ("WebIdentityToken", token)];
    unsigned(sts, "AssumeRoleWithWebIdentity", &parameters)
}

#[test]
fn token_of_a_registered_issuer_gives_a_session() {
    let (sts, issuer) = with_issuer();
    let response = assume(&sts, &role("irsa"), &issuer.token(&json!({}))).ok();
    assert_eq!(response.value("SubjectFromWebIdentityToken"), "system:serviceaccount:shop:web");
    assert_eq!(response.value("Audience"), "sts.amazonaws.com");
    assert_eq!(response.value("Provider"), "arn:aws:iam::111122223333:oidc-provider/oidc.example/id/A");
    let view = sts.inspect(response.value("AccessKeyId")).unwrap();
    assert!(view.chain[0].ends_with("oidc.example/id/A system:serviceaccount:shop:web"), "{:?}", view.chain);
    let identity = call(&sts, &response.keys(), "GetCallerIdentity", &[]).ok();
    assert_eq!(identity.value("Arn"), "arn:aws:sts::111122223333:assumed-role/irsa/pod-1");
}

#[test]
fn denial_by_the_trust_policy_states_no_reason() {
    let (sts, issuer) = with_issuer();
    for (role, changes, code) in [
        (role("irsa"), json!({"sub": "system:serviceaccount:shop:Web"}), "trust_no_statement"),
        (role("irsa"), json!({"aud": "other"}), "trust_no_statement"),
        (role("irsa"), json!({"aud": ["sts.amazonaws.com", "other"]}), "trust_no_statement"),
        (role("irsa"), json!({"azp": "other"}), "trust_no_statement"),
        (role("app"), json!({}), "trust_no_statement"),
        (role("nobody"), json!({}), "role_unknown"),
    ] {
        let response = assume(&sts, &role, &issuer.token(&changes));
        response.assert_error(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
        assert_eq!(sts.denial(&response.request_id).unwrap().code, code, "{changes}");
    }
}

#[test]
fn refuses_invalid_tokens_before_the_trust_policy() {
    let (sts, issuer) = with_issuer();
    let now = NOW.as_secs();
    let irsa = role("irsa");
    for (changes, code, words) in [
        (
            json!({"iss": "https://other.example"}),
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://other.example",
        ),
        (json!({"aud": "unregistered"}), "InvalidIdentityToken", "Incorrect token audience"),
        (json!({"azp": "unregistered"}), "InvalidIdentityToken", "Incorrect token audience"),
        (
            json!({"exp": now}),
            "ExpiredTokenException",
            "Token expired: current date/time 1795327200 must be before the expiration date/time 1795327200",
        ),
        (json!({"nbf": now + 61}), "InvalidIdentityToken", "not valid yet"),
        (json!({"iat": now + 61}), "InvalidIdentityToken", "not valid yet"),
        (json!({"iss": 1}), "InvalidIdentityToken", "not a valid JWT"),
        (
            json!({"https://aws.amazon.com/tags": {"principal_tags": {}}}),
            "InvalidIdentityToken",
            "https://aws.amazon.com/tags",
        ),
    ] {
        assume(&sts, &irsa, &issuer.token(&changes)).assert_error(400, code, words);
    }
    assume(&sts, &irsa, "a.b.c").assert_error(400, "InvalidIdentityToken", "not a valid JWT");
    assume(&sts, &irsa, "abc").assert_error(400, "ValidationError", "Value *** at 'webIdentityToken'");
    assume(&sts, &irsa, &"a".repeat(20_001)).assert_error(400, "ValidationError", "20000");
    let forged = Issuer::new().token(&json!({}));
    assume(&sts, &irsa, &forged).assert_error(400, "InvalidIdentityToken", "signature");
    let other_account = "arn:aws:iam::444455556666:role/target";
    assume(&sts, other_account, &issuer.token(&json!({}))).assert_error(
        400,
        "InvalidIdentityToken",
        "No OpenID",
    );
    let without_keys = super::client::sts();
    assume(&without_keys, &irsa, &issuer.token(&json!({}))).assert_error(
        400,
        "InvalidIdentityToken",
        "Couldn't retrieve verification key",
    );
    assert!(sts.denials().is_empty());
}

#[test]
fn checks_the_other_parameters() {
    let (sts, issuer) = with_issuer();
    let token = issuer.token(&json!({}));
    for (parameter, code, words) in [
        (("DurationSeconds", "3601"), "ValidationError", "MaxSessionDuration"),
        (("ProviderId", "www.amazon.com"), "InvalidParameterValue", "ProviderId"),
        (("Policy", "[]"), "MalformedPolicyDocument", "Syntax errors"),
    ] {
        let parameters = [
            ("RoleArn", &*role("irsa")),
            ("RoleSessionName", "pod-1"),
            ("WebIdentityToken", &token),
            parameter,
        ];
        unsigned(&sts, "AssumeRoleWithWebIdentity", &parameters).assert_error(400, code, words);
    }
    unsigned(&sts, "AssumeRoleWithWebIdentity", &[]).assert_error(
        400,
        "ValidationError",
        "3 validation errors",
    );
}
