//! Signing keys, and their public keys as DER, PEM and JWK.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;

use super::IssuerError;

/// The algorithms that both kube-apiserver and the OIDC providers of IAM support.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256.
    #[default]
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// RSA with 2048 bits, as EKS.
    Rs256,
}

impl KeyAlgorithm {
    /// Returns the value of `alg` in a token's header (RFC 7518, section 3.1).
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
        }
    }
}

enum AnyKeyPair {
    Ecdsa(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A key that signs tokens. No method and no `Debug` output exposes the private key.
pub struct SigningKey {
    algorithm: KeyAlgorithm,
    kid: String,
    public_der: Vec<u8>,
    pair: AnyKeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Generates a new key. RSA takes tens of milliseconds, the others less than one.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Cryptography`].
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, IssuerError> {
        let failed = |_| IssuerError::Cryptography("generate a key");
        let pair = match algorithm {
            KeyAlgorithm::Es256 => {
                AnyKeyPair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?)
            }
            KeyAlgorithm::Es384 => {
                AnyKeyPair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).map_err(failed)?)
            }
            KeyAlgorithm::Rs256 => {
                AnyKeyPair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?))
            }
        };
        let public_der = match &pair {
            AnyKeyPair::Ecdsa(pair) => pair.public_key().as_der(),
            AnyKeyPair::Rsa(pair) => pair.public_key().as_der(),
        };
        let public_der = public_der.map_err(failed)?.as_ref().to_vec();
        // kubernetes `jwt.go`, keyIDFromPublicKey.
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &public_der));
        Ok(Self { algorithm, kid, public_der, pair })
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Returns the key id: SHA-256 of [`SigningKey::public_der`] in base64url without padding.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the public key as DER SubjectPublicKeyInfo (RFC 5280).
    pub fn public_der(&self) -> &[u8] {
        &self.public_der
    }

    /// Returns the public key as PEM. Forgers use this form as an HMAC secret.
    pub fn public_pem(&self) -> String {
        let base64 = STANDARD.encode(&self.public_der);
        let lines: Vec<&str> =
            (0..base64.len()).step_by(64).map(|i| &base64[i..base64.len().min(i + 64)]).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// Returns the header of tokens of this key. Kubernetes sets no `typ`.
    pub fn header(&self) -> serde_json::Value {
        serde_json::json!({ "alg": self.algorithm.name(), "kid": self.kid })
    }

    /// Signs any header and any claims without checks.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Cryptography`].
    pub fn sign_token(&self, header_json: &str, claims_json: &str) -> Result<String, IssuerError> {
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header_json), URL_SAFE_NO_PAD.encode(claims_json));
        let signature = self.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IssuerError> {
        let failed = |_| IssuerError::Cryptography("sign");
        match &self.pair {
            AnyKeyPair::Ecdsa(pair) => {
                Ok(pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec())
            }
            AnyKeyPair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }

    /// Returns the public key as a member of the key set.
    pub(super) fn jwk(&self) -> Jwk<'_> {
        let parameters = match &self.pair {
            AnyKeyPair::Ecdsa(pair) => {
                // SEC 1, section 2.3.3: the byte 4, then both coordinates.
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if self.algorithm == KeyAlgorithm::Es384 { "P-384" } else { "P-256" };
                PublicParameters::Ec { crv, x: URL_SAFE_NO_PAD.encode(x), y: URL_SAFE_NO_PAD.encode(y) }
            }
            AnyKeyPair::Rsa(pair) => PublicParameters::Rsa {
                n: URL_SAFE_NO_PAD.encode(pair.public_key().modulus().big_endian_without_leading_zero()),
                e: URL_SAFE_NO_PAD.encode(pair.public_key().exponent().big_endian_without_leading_zero()),
            },
        };
        Jwk { usage: "sig", kid: &self.kid, alg: self.algorithm.name(), parameters }
    }
}

/// A JSON Web Key (RFC 7517) with the members that kube-apiserver writes.
#[derive(Serialize)]
pub(super) struct Jwk<'a> {
    #[serde(rename = "use")]
    usage: &'static str,
    kid: &'a str,
    alg: &'static str,
    #[serde(flatten)]
    parameters: PublicParameters,
}

#[derive(Serialize)]
#[serde(tag = "kty", rename_all = "UPPERCASE")]
enum PublicParameters {
    Ec { crv: &'static str, x: String, y: String },
    Rsa { n: String, e: String },
}
