//! Key sets of issuers.

use pod_identity_core::token::{Expected, KeySet, POD_IDENTITY_AUDIENCE, PodToken, verify};
use pod_identity_local::issuer::forgery;
use serde_json::{Value, json};

use crate::{ISSUER, now, valid_claims};

/// The input is a key set. A token that none of its keys has signed never verifies. A valid key that is added to the
/// set verifies its tokens.
pub fn jwks(input: &[u8]) {
    let Ok(keys) = KeySet::from_jwks(input) else { return };
    let key = ISSUER.signing_key();
    let claims = valid_claims().to_string();
    let ours = ISSUER.sign(&key.header().to_string(), &claims).unwrap();
    assert!(!verifies(&ours, &keys), "a key that is not in the set has verified a token");

    // A published key is not a shared secret, and a token without signature is invalid.
    let set: Value = serde_json::from_slice(input).expect("a key set that can be read is JSON");
    let published = set["keys"].as_array().expect("it has keys");
    for jwk in published.iter().take(4) {
        let Some(id) = jwk["kid"].as_str() else { continue };
        let header = |algorithm: &str| json!({"alg": algorithm, "kid": id}).to_string();
        for member in ["k", "n", "x"] {
            if let Some(secret) = jwk[member].as_str() {
                let forged = forgery::hs256(&header("HS256"), &claims, secret.as_bytes());
                assert!(
                    !verifies(&forged, &keys),
                    "{member} of {id} has verified a token as a shared secret"
                );
            }
        }
        assert!(!verifies(&forgery::unsigned(&header("none"), &claims), &keys));
    }

    if keys.key_ids().chain(keys.unusable().map(|(id, _)| id)).any(|id| id == key.kid()) {
        return;
    }
    let mut more = set.clone();
    let with: Value = serde_json::from_slice(&ISSUER.jwks()).unwrap();
    more["keys"].as_array_mut().unwrap().push(with["keys"][0].clone());
    let keys = KeySet::from_jwks(more.to_string().as_bytes()).expect("a set with one more key is valid");
    assert!(verifies(&ours, &keys), "a valid key does not verify in the set {set}");
}

fn verifies(token: &str, keys: &KeySet) -> bool {
    let Ok(token) = PodToken::parse(token) else { return false };
    let expected =
        Expected { issuer: ISSUER.issuer().to_owned(), audience: POD_IDENTITY_AUDIENCE.to_owned() };
    verify(&token, keys, &expected, now()).is_ok()
}
