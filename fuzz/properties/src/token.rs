//! Pod tokens: text, claims and signature.

use pod_identity_core::token::{Expected, KeySet, LEEWAY, POD_IDENTITY_AUDIENCE, PodToken, verify};
use serde_json::Value;

use crate::{ISSUER, input, now};

/// Placeholder in an input for the id of the signing key.
const KEY_ID: &str = "KEY-ID";
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The input is a token, or a line with two numbers and a header, an empty line, and claims, which the target signs. A
/// token that verifies has the identity of its claims. With one changed character it does not verify.
pub fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(token) = PodToken::parse(text) {
        assert_eq!(token.bearer().expose(), text);
        assert!(verified(&token).is_none(), "{text} verifies, but this process did not sign it");
    }
    let Some((head, claims)) = input::head_and_body(input) else { return };
    let Some((change, header)) = head.split_once('\n') else { return };
    let Ok(claims) = std::str::from_utf8(claims) else { return };
    let header = header.replace(KEY_ID, ISSUER.signing_key().kid());
    let Ok(signed) = ISSUER.sign(&header, claims) else { return };
    let Ok(token) = PodToken::parse(&signed) else { return };
    let Some(found) = verified(&token) else { return };

    // Parsed by another parser: it must be one object without duplicate keys, with the same identity.
    let claims: Value = serde_json::from_str(claims).expect("verified claims are JSON");
    let kubernetes = &claims["kubernetes.io"];
    let identity = &found.identity;
    assert_eq!(claims["iss"], ISSUER.issuer());
    assert_eq!(claims["sub"], identity.subject().as_str());
    assert_eq!(kubernetes["namespace"], identity.namespace.as_str());
    assert_eq!(kubernetes["serviceaccount"]["name"], identity.service_account.as_str());
    assert_eq!(kubernetes["serviceaccount"]["uid"], identity.service_account_uid.as_str());
    assert_eq!(kubernetes["pod"]["name"], identity.pod.name.as_str());
    assert_eq!(kubernetes["pod"]["uid"], identity.pod.uid.as_str());
    let audience = &claims["aud"];
    let audiences = audience.as_array().map_or(std::slice::from_ref(audience), Vec::as_slice);
    assert!(audiences.iter().any(|audience| *audience == POD_IDENTITY_AUDIENCE));
    assert!(found.expires_at + LEEWAY > now(), "the token has expired");
    let (claimed, expires_at) = token.unverified_identity().expect("a verified token has claims");
    assert_eq!((claimed, expires_at), (identity, found.expires_at));

    let mut numbers = change.split(' ').map_while(|number| number.parse::<usize>().ok());
    let (place, with) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let mut changed = signed.clone().into_bytes();
    let place = place % changed.len();
    changed[place] = BASE64URL[with % BASE64URL.len()];
    let changed = String::from_utf8(changed).expect("the token is ASCII");
    if changed != signed
        && let Ok(token) = PodToken::parse(&changed)
    {
        assert!(verified(&token).is_none(), "the changed token {changed} of {signed} verifies");
    }
}

fn verified(token: &PodToken) -> Option<pod_identity_core::token::VerifiedToken> {
    let keys = KeySet::from_jwks(&ISSUER.jwks()).expect("the issuer's keys can be read");
    let expected =
        Expected { issuer: ISSUER.issuer().to_owned(), audience: POD_IDENTITY_AUDIENCE.to_owned() };
    verify(token, &keys, &expected, now()).ok()
}
