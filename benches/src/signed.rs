//! A signed token like kube-apiserver's, its key set, and its signature for the bare library.

use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Error of making or decoding a token.
pub type Error = Box<dyn std::error::Error>;

/// The issuer of the token.
pub const ISSUER: &str = "https://oidc.pod-identity.test/bench";

/// Returns a time at which the token is valid.
pub fn valid_at() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(VALID_AT)
}

const VALID_AT: u64 = 1_800_000_000;

/// The algorithms that Kubernetes signs with: RSA by default, or ECDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA of 2048 bits, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
}

/// A function that signs a message.
type Sign = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, Error>>;

/// A token with its key.
#[derive(Debug)]
pub struct SignedToken {
    /// The token in its compact form.
    pub token: String,
    /// The key set that verifies it.
    pub jwks: Vec<u8>,
}

/// The signature and the key, parsed for the cryptographic library.
#[derive(Debug)]
pub struct Bare {
    message: Vec<u8>,
    signature: Vec<u8>,
    key: ParsedPublicKey,
}

impl SignedToken {
    /// Makes a key and signs a token with it. Everything else is the same each time.
    ///
    /// # Errors
    /// If the library cannot make the key.
    pub fn new(algorithm: Algorithm) -> Result<Self, Error> {
        let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let random = SystemRandom::new();
        let (alg, jwk, sign): (_, Value, Sign) = match algorithm {
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                let jwk = json!({"kty": "RSA", "n": base64(&public.n), "e": base64(&public.e)});
                let sign = move |message: &[u8]| {
                    let mut signature = vec![0; pair.public_modulus_len()];
                    pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                    Ok(signature)
                };
                ("RS256", jwk, Box::new(sign))
            }
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
                // SEC 1, section 2.3.3: a 4, then both coordinates.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                let jwk = json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)});
                let sign = move |message: &[u8]| Ok(pair.sign(&random, message)?.as_ref().to_vec());
                ("ES256", jwk, Box::new(sign))
            }
        };
        // As long as kube-apiserver's ids, which are the SHA-256 of a key in base64url.
        let kid = "k".repeat(43);
        let mut key = jwk;
        for (member, value) in [("kid", kid.as_str()), ("alg", alg), ("use", "sig")] {
            key[member] = json!(value);
        }
        let message = format!(
            "{}.{}",
            base64(json!({"alg": alg, "kid": kid}).to_string().as_bytes()),
            base64(claims().to_string().as_bytes())
        );
        let token = format!("{message}.{}", base64(&sign(message.as_bytes())?));
        Ok(Self { token, jwks: json!({"keys": [key]}).to_string().into_bytes() })
    }

    /// Returns the data for the bare library: the parsed key, and the decoded signature and message.
    ///
    /// # Errors
    /// If the token does not belong to the key set.
    pub fn bare(&self) -> Result<Bare, Error> {
        let (message, signature) = self.token.rsplit_once('.').ok_or("not a token")?;
        let jwks: Value = serde_json::from_slice(&self.jwks)?;
        let key = &jwks["keys"][0];
        let number = |member: &str| -> Result<Vec<u8>, Error> {
            Ok(URL_SAFE_NO_PAD.decode(key[member].as_str().ok_or("the field is missing")?)?)
        };
        let key = if key["kty"] == "RSA" {
            let components = PublicKeyComponents { n: number("n")?, e: number("e")? };
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, components.as_der()?.as_ref())?
        } else {
            let point = [vec![4], number("x")?, number("y")?].concat();
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)?
        };
        let signature = URL_SAFE_NO_PAD.decode(signature)?;
        Ok(Bare { message: message.as_bytes().to_vec(), signature, key })
    }
}

impl Bare {
    /// Verifies only the signature.
    pub fn verifies(&self) -> bool {
        self.key.verify_sig(&self.message, &self.signature).is_ok()
    }
}

/// Returns the claims of a pod token (kubernetes `pkg/serviceaccount/claims.go`).
fn claims() -> Value {
    let now = VALID_AT;
    json!({
        "aud": ["pods.eks.amazonaws.com"],
        "exp": now + 80_000,
        "iat": now - 6_400,
        "iss": ISSUER,
        "jti": "0f0f0f0f-1111-4222-8333-444444444444",
        "kubernetes.io": {
            "namespace": "online-shop",
            "node": {
                "name": "ip-10-0-100-200.eu-west-1.compute.internal",
                "uid": "5b5b5b5b-1111-4222-8333-444444444444",
            },
            "pod": {
                "name": "checkout-service-7c9d6b5f4d-x2k9q",
                "uid": "6c6c6c6c-1111-4222-8333-444444444444",
            },
            "serviceaccount": {"name": "checkout-service", "uid": "7d7d7d7d-1111-4222-8333-444444444444"},
        },
        "nbf": now - 6_400,
        "sub": "system:serviceaccount:online-shop:checkout-service",
    })
}
