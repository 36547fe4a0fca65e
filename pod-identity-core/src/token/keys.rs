//! The public keys of an issuer, from its JSON Web Key Set (RFC 7517).

use std::fmt;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde::Deserialize;

use super::TokenError;
use crate::error::Quoted;
use crate::json;

/// Minimum size of an RSA modulus, in bytes: 2048 bits (RFC 7518 §3.3).
const MIN_RSA_BYTES: usize = 256;

/// The accepted algorithms, by their names in RFC 7518 §3.1. `none`, algorithms with a shared secret, and algorithms
/// that Kubernetes does not use are not accepted.
const ACCEPTED: [(&str, Algorithm); 3] =
    [("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256), ("ES384", Algorithm::ES384)];

/// Returns the accepted algorithm of a name.
pub(super) fn accepted(alg: &str) -> Option<Algorithm> {
    ACCEPTED.iter().find(|(name, _)| *name == alg).map(|(_, algorithm)| *algorithm)
}

fn name(algorithm: Algorithm) -> &'static str {
    ACCEPTED.iter().find(|(_, accepted)| *accepted == algorithm).map_or("another algorithm", |(name, _)| name)
}

/// The public keys of an issuer. The set is immutable, and replaced when the issuer rotates its keys.
///
/// ```
/// use pod_identity_core::token::KeySet;
///
/// let keys = KeySet::from_jwks(br#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "demo-1",
///     "x": "XZKFS4EamUQGlMazLdX9wZtFjwNVM8Cr1eZHpSSl6xc",
///     "y": "IQeZdQ0TMve7vNapGJMvV5krj1Q2nquo09dCQloRwd4"}]}"#)?;
/// assert_eq!(keys.key_ids().collect::<Vec<_>>(), ["demo-1"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<PublicKey>,
    unusable: Vec<UnusableKey>,
}

#[derive(Clone)]
struct PublicKey {
    id: String,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

/// A published key that cannot verify tokens. It is kept so that the error for its tokens has the reason.
#[derive(Clone)]
struct UnusableKey {
    id: String,
    reason: String,
}

/// Error of [`KeySet::from_jwks`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The document is not a JSON Web Key Set.
    #[error("not a JSON Web Key Set: {0}")]
    Malformed(#[from] json::JsonError),
    /// The document is the issuer's discovery document, which has the URL of the key set.
    #[error(
        "an OpenID discovery document, want a JSON Web Key Set: give the URL of its jwks_uri, {}, or no URL of keys, so \
         that the issuer's own document is read",
        Quoted(.jwks_uri)
    )]
    Discovery {
        /// URL of the key set.
        jwks_uri: String,
    },
    /// No key can verify a token.
    #[error("the key set has no key that verifies RS256, ES256 or ES384 tokens{}", list(.unusable))]
    NoUsableKey {
        /// The reason for each key, as `<key id>: <reason>`.
        unusable: Vec<String>,
    },
}

fn list(unusable: &[String]) -> String {
    if unusable.is_empty() { String::new() } else { format!(" ({})", unusable.join("; ")) }
}

#[derive(Deserialize)]
struct DiscoveryDocument {
    jwks_uri: String,
}

#[derive(Deserialize)]
struct JsonWebKeySet {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a JSON Web Key Set. An unusable key (another use, another type, too short, without an id) is skipped; see
    /// [`unusable`](Self::unusable).
    ///
    /// # Errors
    /// [`KeySetError`] if the document is not a key set or has no usable key.
    pub fn from_jwks(jwks: &[u8]) -> Result<Self, KeySetError> {
        let set: JsonWebKeySet =
            json::from_slice(jwks).map_err(|error| match json::from_slice::<DiscoveryDocument>(jwks) {
                Ok(DiscoveryDocument { jwks_uri }) => KeySetError::Discovery { jwks_uri },
                Err(_) => error.into(),
            })?;
        let mut keys = Vec::new();
        let mut unusable = Vec::new();
        for jwk in set.keys {
            let id = jwk.get("kid").and_then(|kid| kid.as_str()).unwrap_or_default().to_owned();
            match usable(&jwk) {
                Ok((algorithm, key)) => keys.push(PublicKey { id, algorithm, key }),
                Err(reason) => unusable.push(UnusableKey { id, reason }),
            }
        }
        if keys.is_empty() {
            let name = |(index, key): (usize, &UnusableKey)| match key.id.as_str() {
                "" => format!("key {}: {}", index + 1, key.reason),
                id => format!("{id}: {}", key.reason),
            };
            let unusable = unusable.iter().enumerate().map(name).collect();
            return Err(KeySetError::NoUsableKey { unusable });
        }
        Ok(Self { keys, unusable })
    }

    /// Returns the ids of the usable keys.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// Returns the unusable published keys, each with the reason, for a warning.
    pub fn unusable(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unusable.iter().map(|key| (key.id.as_str(), key.reason.as_str()))
    }

    /// Checks a signature with the key of the id, under exactly that key's algorithm.
    pub(super) fn check(
        &self,
        key_id: &str,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let mut known = None;
        for key in self.keys.iter().filter(|key| key.id == key_id) {
            known = Some(key.algorithm);
            if key.algorithm == algorithm && key.key.verify_sig(message, signature).is_ok() {
                return Ok(());
            }
        }
        match known {
            Some(of_key) if of_key != algorithm => {
                Err(TokenError::AlgorithmNotOfKey { token: name(algorithm), key: name(of_key) })
            }
            Some(_) => Err(TokenError::SignatureInvalid),
            None => Err(match self.unusable.iter().find(|key| key.id == key_id) {
                Some(key) => {
                    TokenError::KeyUnusable { key_id: key_id.to_owned(), reason: key.reason.clone() }
                }
                None => TokenError::KeyUnknown { key_id: key_id.to_owned() },
            }),
        }
    }
}

/// Parses the key for the cryptographic library, because jsonwebtoken would parse it for each token. `cargo run
/// --release -p benches -- verify` measures the time of a verification beside its signature.
fn parsed(algorithm: Algorithm, key: &DecodingKey) -> Option<ParsedPublicKey> {
    let point = || key.try_get_as_bytes().ok();
    match (algorithm, key.kind()) {
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            // RFC 7518 §6.3.1.1 forbids leading zeros. Some libraries write one, and it does not change the number.
            let number =
                |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
            let der = PublicKeyComponents { n: number(n), e: number(e) }.as_der().ok()?;
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der.as_ref()).ok()
        }
        (Algorithm::ES256, _) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point()?).ok(),
        (Algorithm::ES384, _) => ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point()?).ok(),
        _ => None,
    }
}

fn usable(jwk: &serde_json::Value) -> Result<(Algorithm, ParsedPublicKey), String> {
    let jwk: Jwk = serde::Deserialize::deserialize(jwk)
        .map_err(|error| format!("not a key of a known type: {error}"))?;
    if jwk.common.key_id.as_deref().unwrap_or_default().is_empty() {
        return Err(
            "it has no id (kid), which tokens refer to: publish the key set that the API server serves at \
                    /openid/v1/jwks"
                .to_owned(),
        );
    }
    if jwk.common.public_key_use.as_ref().is_some_and(|of| *of != PublicKeyUse::Signature) {
        return Err("its use is not \"sig\"".to_owned());
    }
    // Kubernetes signs with RS256 for every RSA key (pkg/serviceaccount/jwt.go).
    let (algorithm, of_key) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => (Algorithm::ES256, KeyAlgorithm::ES256),
            EllipticCurve::P384 => (Algorithm::ES384, KeyAlgorithm::ES384),
            EllipticCurve::P521 => return Err("curve P-521 (ES512) is not supported".to_owned()),
            _ => return Err("its curve is not supported".to_owned()),
        },
        _ => return Err("neither an RSA nor an elliptic curve key".to_owned()),
    };
    if jwk.common.key_algorithm.is_some_and(|alg| alg != of_key) {
        return Err(format!("its alg is not {}", name(algorithm)));
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
    if let DecodingKeyKind::RsaModulusExponent { n, .. } = key.kind()
        && n.iter().skip_while(|byte| **byte == 0).count() < MIN_RSA_BYTES
    {
        return Err("an RSA key of less than 2048 bits".to_owned());
    }
    let key = parsed(algorithm, &key).ok_or("its numbers are not a public key")?;
    Ok((algorithm, key))
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.key_ids()).finish()
    }
}
