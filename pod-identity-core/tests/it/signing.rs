//! Signed tokens, valid and forged: keys of this process, claims as JSON.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A signing key with its published id.
pub(crate) struct Key {
    pub(crate) id: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
}

impl Key {
    pub(crate) fn rsa(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()) }
    }

    pub(crate) fn p256(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { id: id.to_owned(), pair: Pair::P256(pair) }
    }

    pub(crate) fn p384(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self { id: id.to_owned(), pair: Pair::P384(pair) }
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
        }
    }

    /// Returns the header of a token of this key. Kubernetes sets no `typ`.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "kid": self.id})
    }

    /// Returns the public key as a JSON Web Key.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
                let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
                json!({"kty": "RSA", "n": base64url(n), "e": base64url(e)})
            }
            Pair::P256(pair) => ec_jwk("P-256", pair),
            Pair::P384(pair) => ec_jwk("P-384", pair),
        };
        jwk["kid"] = json!(self.id);
        jwk["alg"] = json!(self.algorithm());
        jwk["use"] = json!("sig");
        jwk
    }

    /// Signs any header and any claims.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs any texts.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
            }
        };
        format!("{message}.{}", base64url(&signature))
    }

    /// Returns the public key as a shared secret of a forger: in DER and in PEM.
    pub(crate) fn public_as_secrets(&self) -> [Vec<u8>; 2] {
        let der = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_der(),
        };
        let der = der.unwrap().as_ref().to_vec();
        let base64 = STANDARD.encode(&der);
        let lines: Vec<&str> =
            base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        [der, pem.into_bytes()]
    }
}

/// Returns the coordinates of a point, after the byte 4 of the uncompressed form (SEC 1 §2.3.3).
fn ec_jwk(curve: &str, pair: &EcdsaKeyPair) -> Value {
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})
}

/// Returns the JSON Web Key Set of keys.
pub(crate) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

/// Returns a token without signature, as with `"alg": "none"`.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.", message(&header.to_string(), &claims.to_string()))
}

/// Returns a token with the signature of another one.
pub(crate) fn with_signature_of(token: &str, header: &Value, claims: &Value) -> String {
    let signature = token.rsplit('.').next().unwrap();
    format!("{}{signature}", unsigned(header, claims))
}

/// Returns a token that is signed with a shared secret.
pub(crate) fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = message(&header.to_string(), &claims.to_string());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", base64url(tag.as_ref()))
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()))
}
