//! Tokens with invalid signatures, which every verifier must refuse (RFC 8725, sections 2.1 and 3.1).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Makes a token with an HMAC-SHA-256 signature. With a public key as `secret`, it deceives a verifier that lets the
/// header choose the algorithm.
pub fn hs256(header_json: &str, claims_json: &str, secret: &[u8]) -> String {
    let message = message(header_json, claims_json);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Makes a token with an empty signature, as for `"alg": "none"`.
pub fn unsigned(header_json: &str, claims_json: &str) -> String {
    format!("{}.", message(header_json, claims_json))
}

/// Makes a token with the signature of another token.
pub fn with_signature_of(token: &str, header_json: &str, claims_json: &str) -> String {
    let signature = token.rsplit('.').next().unwrap_or_default();
    format!("{}.{signature}", message(header_json, claims_json))
}

fn message(header_json: &str, claims_json: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header_json), URL_SAFE_NO_PAD.encode(claims_json))
}
