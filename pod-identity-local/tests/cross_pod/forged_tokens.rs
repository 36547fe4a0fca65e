//! Forged tokens.

use std::time::Duration;

use pod_identity_local::issuer::{KeyAlgorithm, SigningKey, forgery};
use pod_identity_runtime::clock;
use serde_json::{Value, json};

use super::clusters::{TestClusters, TestPod, Token};
use super::random::Random;

/// Makes a random kind of invalid token that names `victim`.
pub(crate) fn forge(clusters: &TestClusters, victim: &TestPod, random: &mut Random) -> Token {
    let issuer = clusters.issuer(victim.cluster);
    let key = issuer.signing_key();
    let claims = issuer.claims(&victim.workload.token_request(clock::now(), Duration::from_secs(600)));
    let claims_text = claims.to_string();
    let header = key.header();
    let header_text = header.to_string();
    let with_header = |member: &str, value: Value| {
        let mut header = header.clone();
        header[member] = value;
        header.to_string()
    };
    let sign = |claims: &str| issuer.sign(&header_text, claims).unwrap();
    let other = random.one_of(&clusters.pods);
    let text = match random.below(FORGERY_KINDS) {
        // Unsigned.
        0 => forgery::unsigned(&with_header("alg", json!("none")), &claims_text),
        1 => format!("{}AA", forgery::unsigned(&with_header("alg", json!("none")), &claims_text)),
        // HMAC with the public key as the secret.
        2 => forgery::hs256(&with_header("alg", json!("HS256")), &claims_text, key.public_pem().as_bytes()),
        3 => forgery::hs256(&with_header("alg", json!("HS256")), &claims_text, key.public_der()),
        4 => forgery::hs256(&header_text, &claims_text, key.public_der()),
        // The signature of another token.
        5 => forgery::with_signature_of(&clusters.new_token(other).text, &header_text, &claims_text),
        // The forger's own key, with the id of the real key and with its own id.
        6 => forged_key().sign_token(&header_text, &claims_text).unwrap(),
        7 => {
            let own = forged_key();
            own.sign_token(&own.header().to_string(), &claims_text).unwrap()
        }
        // The key of another cluster, with the id of the real key.
        8 => clusters.issuer((victim.cluster + 1) % 3).sign(&header_text, &claims_text).unwrap(),
        9 => clusters.issuer((victim.cluster + 2) % 3).sign(&header_text, &claims_text).unwrap(),
        // Wrong headers.
        10 => issuer.sign(&with_header("crit", json!(["b64"])), &claims_text).unwrap(),
        11 => issuer.sign(&with_header("alg", json!("ES384")), &claims_text).unwrap(),
        12 => issuer.sign(&json!({"alg": "ES256"}).to_string(), &claims_text).unwrap(),
        13 => issuer.sign(&with_header("kid", json!("../../etc/passwd")), &claims_text).unwrap(),
        // Valid signatures over wrong, missing or duplicate claims.
        14 => sign(&with(&claims, "aud", json!(["sts.amazonaws.com"]))),
        15 => sign(&with(&claims, "aud", json!(["pods.eks.amazonaws.com", "sts.amazonaws.com"]))),
        16 => sign(&with(&claims, "iss", json!("https://kubernetes.default.svc"))),
        17 => sign(&with(&claims, "sub", json!("system:serviceaccount:default:nobody"))),
        18 => sign(&with(&claims, "nbf", json!(claims["exp"]))),
        19 => sign(&with(&claims, "kubernetes.io", Value::Null)),
        20 => {
            let mut bare = claims.clone();
            bare["kubernetes.io"].as_object_mut().unwrap().remove("pod");
            sign(&bare.to_string())
        }
        21 => sign(&claims_text.replacen('{', "{\"sub\":\"system:serviceaccount:default:nobody\",", 1)),
        22 => sign(&claims_text.replacen("\"pod\":{", "\"pod\":{\"uid\":\"0\",", 1)),
        // A genuine token, altered or truncated.
        23 => flipped(&clusters.new_token(victim).text, random),
        _ => {
            let real = clusters.new_token(victim).text;
            real[..real.len() - 2].to_owned()
        }
    };
    Token { text, generation: 0 }
}

const FORGERY_KINDS: usize = 25;

fn forged_key() -> SigningKey {
    SigningKey::generate(KeyAlgorithm::Es256).unwrap()
}

fn with(claims: &Value, name: &str, value: Value) -> String {
    let mut claims = claims.clone();
    claims[name] = value;
    claims.to_string()
}

/// Changes one character of the claims or the signature, but not the last one, in which some bits have no meaning.
fn flipped(token: &str, random: &mut Random) -> String {
    let mut bytes = token.as_bytes().to_vec();
    let start = token.find('.').unwrap() + 1;
    let index = loop {
        let index = start + random.below(token.len() - start - 1);
        if bytes[index] != b'.' {
            break index;
        }
    };
    bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}
