//! Usable and unusable published keys.

use pod_identity_core::token::{KeySet, KeySetError, TokenError};
use serde_json::{Value, json};

use super::{check_with, claims, key_set, now, without};
use crate::signing::{Key, base64url, jwks};

#[test]
fn old_keys_verify_until_they_are_withdrawn() {
    let (old, new) = (Key::p256("old"), Key::rsa("new"));
    let (before, after) = (old.sign(&old.header(), &claims()), new.sign(&new.header(), &claims()));
    let both = key_set(&[&old, &new]);
    assert!(check_with(&both, &before, now()).is_ok());
    assert!(check_with(&both, &after, now()).is_ok());
    let withdrawn = check_with(&key_set(&[&new]), &before, now());
    assert_eq!(withdrawn, Err(TokenError::KeyUnknown { key_id: "old".to_owned() }));
}

#[test]
fn tokens_of_unusable_keys_are_refused_with_the_reason() {
    let key = Key::p256("a");
    let token = key.sign(&key.header(), &claims());
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = key.jwk();
        change(&mut changed);
        // A second, usable key makes the set valid.
        let keys = KeySet::from_jwks(&jwks(&[Key::p256("b").jwk(), changed])).unwrap();
        check_with(&keys, &token, now())
    };
    assert!(changed(&|_| {}).is_ok());
    for (change, reason) in [
        (json!({"crv": "P-521"}), "curve P-521 (ES512) is not supported"),
        (json!({"use": "enc"}), "its use is not \"sig\""),
        (json!({"alg": "ES384"}), "its alg is not ES256"),
        (json!({"kty": "oct", "k": "c2VjcmV0"}), "neither an RSA nor an elliptic curve key"),
        (json!({"kty": "OKP", "crv": "Ed25519"}), "neither an RSA nor an elliptic curve key"),
        (json!({"crv": "Ed25519"}), "its curve is not supported"),
        (json!({"crv": "P-9"}), "neither an RSA nor an elliptic curve key"),
        (json!({"kty": "what"}), "neither an RSA nor an elliptic curve key"),
        (json!({"use": 7}), "not a key of a known type"),
    ] {
        let error = changed(&|key| {
            for (member, value) in change.as_object().unwrap() {
                key[member] = value.clone();
            }
        });
        let Err(TokenError::KeyUnusable { key_id, reason: actual }) = error else {
            panic!("{change}: {error:?}")
        };
        assert_eq!(key_id, "a");
        assert!(actual.starts_with(reason), "{change}: {actual}");
    }
    assert!(matches!(changed(&|key| without(key, "kid")), Err(TokenError::KeyUnknown { .. })));
    // The fields for the use of a key are optional.
    assert!(changed(&|key| without(key, "use")).is_ok());
    assert!(changed(&|key| without(key, "alg")).is_ok());
}

#[test]
fn set_has_usable_keys_and_reasons_for_the_others() {
    let mut spoilt = Key::p256("spoilt").jwk();
    spoilt["use"] = json!("enc");
    let keys = KeySet::from_jwks(&jwks(&[Key::p256("a").jwk(), spoilt, Key::p384("b").jwk()])).unwrap();
    assert_eq!(keys.key_ids().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(keys.unusable().collect::<Vec<_>>(), [("spoilt", "its use is not \"sig\"")]);
    assert_eq!(format!("{keys:?}"), r#"["a", "b"]"#);
}

#[test]
fn set_without_usable_key_is_an_error() {
    let in_an_array = json!([[Key::p256("a").jwk()]]).to_string();
    for text in ["", "{}", "[]", r#"{"keys":1}"#, r#"{"keys":[],"keys":[]}"#, &in_an_array] {
        assert!(matches!(KeySet::from_jwks(text.as_bytes()), Err(KeySetError::Malformed(_))), "{text}");
    }
    let members: Value = Key::p256("a").jwk().as_object().unwrap().values().cloned().collect();
    let key_in_an_array = KeySet::from_jwks(&jwks(&[members])).unwrap_err();
    assert!(matches!(key_in_an_array, KeySetError::NoUsableKey { .. }), "{key_in_an_array:?}");
    let none = KeySet::from_jwks(&jwks(&[])).unwrap_err();
    assert_eq!(none.to_string(), "the key set has no key that verifies RS256, ES256 or ES384 tokens");
}

#[test]
fn error_of_a_set_without_key_ids_has_the_fix() {
    let mut key = Key::p256("a").jwk();
    without(&mut key, "kid");
    let error = KeySet::from_jwks(&jwks(&[key])).unwrap_err().to_string();
    assert!(error.contains("(key 1: it has no id (kid)") && error.contains("/openid/v1/jwks"), "{error}");
}

#[test]
fn error_for_a_discovery_document_has_its_jwks_uri() {
    let document = json!({"issuer": "https://a.test", "jwks_uri": "https://a.test/keys"}).to_string();
    let error = KeySet::from_jwks(document.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("discovery document") && error.contains("https://a.test/keys"), "{error}");
}

/// RFC 7518 §3.3 requires at least 2048 bits. Leading zeros of a modulus do not count.
#[test]
fn short_rsa_key_is_not_used() {
    let key = Key::rsa("short");
    let with_modulus = |change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let mut jwk = key.jwk();
        jwk["n"] = json!(base64url(&change(modulus(&key))));
        KeySet::from_jwks(&jwks(&[jwk]))
    };
    assert!(with_modulus(&|n| n).is_ok());
    assert!(with_modulus(&|n| [vec![0], n].concat()).is_ok());
    for short in [
        with_modulus(&|n| n[..255].to_vec()),
        with_modulus(&|n| [vec![0; 3], n[..255].to_vec()].concat()),
        with_modulus(&|n| n[..128].to_vec()),
    ] {
        let error = short.unwrap_err();
        assert!(matches!(error, KeySetError::NoUsableKey { .. }), "{error:?}");
        assert!(error.to_string().ends_with("tokens (short: an RSA key of less than 2048 bits)"), "{error}");
    }
}

fn modulus(key: &Key) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(key.jwk()["n"].as_str().unwrap()).unwrap()
}
