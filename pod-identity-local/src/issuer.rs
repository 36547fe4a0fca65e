//! An OIDC issuer that signs service account tokens and publishes its keys, as kube-apiserver does.
//!
//! Tokens and documents follow kubernetes `pkg/serviceaccount` (`jwt.go`, `claims.go`,
//! `openidmetadata.go`). The issuer has no socket and no clock: the caller provides both.
//!
//! # Example: a token and a key rotation
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use pod_identity_local::issuer::{Issuer, KeyAlgorithm, TokenRequest};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let base_url = "http://127.0.0.1:4000/demo";
//! let issuer = Issuer::new("https://oidc.pod-identity.test/demo", base_url, KeyAlgorithm::Es256)?;
//! let token = issuer.mint(&TokenRequest {
//!     namespace: "shop".parse()?,
//!     service_account: "orders".parse()?,
//!     service_account_uid: "0b1c7f6e-57a5-4f0c-a7f4-3f9d7f9f6a01".parse()?,
//!     pod: None,
//!     node: None,
//!     audiences: vec!["pods.eks.amazonaws.com".to_owned()],
//!     issued_at: SystemTime::UNIX_EPOCH,
//!     not_before: SystemTime::UNIX_EPOCH,
//!     expires_at: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
//! })?;
//! assert_eq!(token.split('.').count(), 3);
//!
//! let old = issuer.signing_key().kid().to_owned();
//! issuer.rotate(KeyAlgorithm::Rs256)?; // the new key signs; the old key stays published
//! issuer.withdraw(&old); // only the new key is published
//! # Ok(())
//! # }
//! ```

mod documents;
pub mod forgery;
mod key;
mod token;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Uri};

pub use key::{KeyAlgorithm, SigningKey};
pub use token::TokenRequest;

/// Path of the discovery document below the issuer (OpenID Connect Discovery 1.0, section 4).
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// Path of the key set of kube-apiserver (`openidmetadata.go`).
pub const JWKS_PATH: &str = "/openid/v1/jwks";

/// Cache lifetime of kube-apiserver's documents (`openidmetadata.go`: an hour for keys from files).
const CACHE_FOR: Duration = Duration::from_secs(3600);

/// Why an issuer cannot be created, or cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// The issuer is not a URL that kube-apiserver serves documents for.
    #[error("issuer is {0:?}, want an https URL without query and fragment")]
    Issuer(String),
    /// The base URL of the documents is not a URL.
    #[error("base URL of the issuer's documents is {0:?}, want an http or https URL without query")]
    BaseUrl(String),
    /// The cryptographic library returned an error.
    #[error(
        "the cryptographic library failed to {0}; it reports no cause, the usual one is a lack of memory"
    )]
    Cryptography(&'static str),
}

/// An issuer of service account tokens, with the keys that it publishes.
#[derive(Debug)]
pub struct Issuer {
    issuer: String,
    base_url: String,
    path_prefix: String,
    cache_for: Duration,
    /// Published keys. The last one signs. Never empty.
    keys: RwLock<Vec<Arc<SigningKey>>>,
}

impl Issuer {
    /// Creates an issuer with one new key.
    ///
    /// `issuer` is the claim `iss` of its tokens. `base_url` is the URL below which the documents are served. It may
    /// differ from `issuer`: `http://127.0.0.1:4000/demo` for the issuer `https://oidc.pod-identity.test/demo`.
    ///
    /// # Errors
    ///
    /// [`IssuerError`] if one of the two is not a URL in the form of kube-apiserver, or if no key can be generated.
    pub fn new(issuer: &str, base_url: &str, algorithm: KeyAlgorithm) -> Result<Self, IssuerError> {
        if !is_url(issuer, &["https"]) {
            return Err(IssuerError::Issuer(issuer.to_owned()));
        }
        let base_url = base_url.trim_end_matches('/');
        if !is_url(base_url, &["http", "https"]) {
            return Err(IssuerError::BaseUrl(base_url.to_owned()));
        }
        let path_prefix = base_url.parse::<Uri>().map(|uri| uri.path().trim_end_matches('/').to_owned());
        Ok(Self {
            issuer: issuer.to_owned(),
            base_url: base_url.to_owned(),
            path_prefix: path_prefix.map_err(|_| IssuerError::BaseUrl(base_url.to_owned()))?,
            cache_for: CACHE_FOR,
            keys: RwLock::new(vec![Arc::new(SigningKey::generate(algorithm)?)]),
        })
    }

    /// Sets the cache lifetime of the documents. Default: one hour.
    #[must_use]
    pub fn cached_for(self, cache_for: Duration) -> Self {
        Self { cache_for, ..self }
    }

    /// Returns the claim `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the URL of the key set: `jwks_uri` of the discovery document.
    pub fn jwks_uri(&self) -> String {
        format!("{}{JWKS_PATH}", self.base_url)
    }

    /// Returns the key that signs.
    pub fn signing_key(&self) -> Arc<SigningKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&keys[keys.len() - 1])
    }

    /// Returns every published key, the signing key last.
    pub fn published_keys(&self) -> Vec<Arc<SigningKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Generates a new key. It signs from now on. The old keys stay published.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Cryptography`] if no key can be generated. The old key then still signs.
    pub fn rotate(&self, algorithm: KeyAlgorithm) -> Result<Arc<SigningKey>, IssuerError> {
        let key = Arc::new(SigningKey::generate(algorithm)?);
        self.keys.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&key));
        Ok(key)
    }

    /// Removes a key from the published keys. Returns `false` if the key is not published or is the signing key.
    pub fn withdraw(&self, kid: &str) -> bool {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let last = keys.len() - 1;
        match keys.iter().position(|key| key.kid() == kid) {
            Some(index) if index < last => {
                keys.remove(index);
                true
            }
            _ => false,
        }
    }

    /// Signs a token for a service account, as the TokenRequest API does for kubelet.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Cryptography`].
    pub fn mint(&self, request: &TokenRequest) -> Result<String, IssuerError> {
        self.sign(&self.signing_key().header().to_string(), &self.claims(request).to_string())
    }

    /// Returns the claims that [`Issuer::mint`] signs, for tests that change them first.
    pub fn claims(&self, request: &TokenRequest) -> serde_json::Value {
        request.claims(&self.issuer)
    }

    /// Signs any header and any claims with the signing key, for tests with malformed tokens. [`SigningKey::header`]
    /// returns the correct header. The module [`forgery`] makes invalid signatures.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Cryptography`].
    pub fn sign(&self, header_json: &str, claims_json: &str) -> Result<String, IssuerError> {
        self.signing_key().sign_token(header_json, claims_json)
    }

    /// Returns the served key set.
    pub fn jwks(&self) -> Vec<u8> {
        documents::jwks(&self.published_keys())
    }

    /// Responds to a request for one of the two documents, and with 404 or 405 to any other request.
    pub fn handle(&self, parts: &Parts) -> Response<Bytes> {
        let keys = self.published_keys();
        let (media_type, body) = match parts.uri.path().strip_prefix(&self.path_prefix) {
            Some(DISCOVERY_PATH) => {
                ("application/json", documents::discovery(&self.issuer, &self.jwks_uri(), &keys))
            }
            Some(JWKS_PATH) => ("application/jwk-set+json", documents::jwks(&keys)),
            _ => return empty(StatusCode::NOT_FOUND),
        };
        if parts.method != Method::GET && parts.method != Method::HEAD {
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let length = body.len();
        let body = if parts.method == Method::HEAD { Bytes::new() } else { Bytes::from(body) };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        let cache_control = format!("public, max-age={}", self.cache_for.as_secs());
        if let Ok(value) = HeaderValue::from_str(&cache_control) {
            headers.insert(CACHE_CONTROL, value);
        }
        response
    }
}

fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
        && uri.host().is_some_and(|host| !host.is_empty())
        && !text.contains(['?', '#', '@'])
}

#[cfg(test)]
mod tests;
