//! Requests of tests, with the same steps as in the service.
#![allow(clippy::unwrap_used)]

use std::hash::Hash;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Begin, CredentialCache};
use crate::error::UpstreamError;
use crate::time::{Expires, Now};
use crate::token::PodToken;

/// Makes a token with the claims of a pod. Its signature is invalid, because the cache does not verify tokens.
pub(super) fn token(pod: u32) -> PodToken {
    let claims = format!(
        r#"{{"iss": "https://oidc.pod-identity.test", "sub": "system:serviceaccount:shop:cart",
            "aud": ["pods.eks.amazonaws.com"], "iat": 0, "exp": 4102444800, "kubernetes.io": {{"namespace": "shop",
            "serviceaccount": {{"name": "cart", "uid": "1"}}, "pod": {{"name": "cart-{pod}", "uid": "{pod}"}}}}}}"#
    );
    PodToken::parse(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))).unwrap()
}

/// Begins a request: a hit, or a refusal, or the identity of a known token, or verification.
pub(super) fn begin<K, V, E, X>(
    cache: &CredentialCache<K, V, E>,
    token: &PodToken,
    now: Now,
    verify: impl FnOnce() -> Result<Option<(K, SystemTime)>, X>,
) -> Result<Begin<K, V, E>, X>
where
    K: Hash + Eq + Clone,
    V: Expires,
    E: UpstreamError,
{
    let digest = token.digest();
    if let Some(entry) = cache.hit(&digest, now) {
        return Ok(Begin::Hit(entry));
    }
    if let Some(error) = cache.refusal(&digest, now) {
        return Ok(Begin::Refused(error));
    }
    let generation = cache.generation();
    let verified = match cache.known(&digest, now) {
        Some(known) => Some(known),
        None => verify()?,
    };
    Ok(cache.begin(token, verified, generation, now))
}
