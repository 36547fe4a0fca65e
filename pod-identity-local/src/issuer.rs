//! An OIDC issuer that signs service account tokens as kube-apiserver does and publishes its keys.
//!
//! Tokens and documents follow kubernetes `pkg/serviceaccount` (`jwt.go`, `claims.go`,
//! `openidmetadata.go`). The issuer has no socket and no clock: whoever runs it gives both.
//!
//! # A token, and a key rotation
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use pod_identity_local::issuer::{Issuer, KeyAlgorithm, TokenRequest};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let place = "http://127.0.0.1:4000/demo";
//! let issuer = Issuer::new("https://oidc.pod-identity.test/demo", place, KeyAlgorithm::Es256)?;
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
//! issuer.rotate(KeyAlgorithm::Rs256)?; // signs from now on; the old key stays published
//! issuer.withdraw(&old); // and now only the new one is
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

/// The path of the discovery document below the issuer (OpenID Connect Discovery 1.0, section 4).
pub const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// The path of the key set, where kube-apiserver has it (`openidmetadata.go`).
pub const JWKS_PATH: &str = "/openid/v1/jwks";

/// How long kube-apiserver lets its documents be cached (`openidmetadata.go`: an hour for keys from files).
const CACHE_FOR: Duration = Duration::from_secs(3600);

/// What an issuer cannot be made of, or could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// kube-apiserver serves no documents for such an issuer.
    #[error("{0:?} is no issuer: it has to be an https URL without query and fragment")]
    Issuer(String),
    /// The place of the documents is no URL.
    #[error("{0:?} is no place for an issuer's documents: it has to be an http or https URL without query")]
    Place(String),
    /// The cryptographic library refused.
    #[error("the key library failed to {0}; it gives no cause, and running out of memory is the usual one")]
    Cryptography(&'static str),
}

/// An issuer of service account tokens, with the keys that it publishes.
#[derive(Debug)]
pub struct Issuer {
    issuer: String,
    place: String,
    prefix: String,
    cache_for: Duration,
    /// The last one signs; all are published. Never empty.
    keys: RwLock<Vec<Arc<SigningKey>>>,
}

impl Issuer {
    /// Makes an issuer with one new key.
    ///
    /// `issuer` is what tokens carry as `iss`. `place` is where the documents can be fetched, which
    /// may be somewhere else: the issuer `https://oidc.pod-identity.test/demo` at
    /// `http://127.0.0.1:4000/demo`.
    ///
    /// # Errors
    ///
    /// One of the two is not a URL of the form that kube-apiserver takes, or no key could be made.
    pub fn new(issuer: &str, place: &str, algorithm: KeyAlgorithm) -> Result<Self, IssuerError> {
        if !is_url(issuer, &["https"]) {
            return Err(IssuerError::Issuer(issuer.to_owned()));
        }
        let place = place.trim_end_matches('/');
        if !is_url(place, &["http", "https"]) {
            return Err(IssuerError::Place(place.to_owned()));
        }
        let prefix = place.parse::<Uri>().map(|uri| uri.path().trim_end_matches('/').to_owned());
        Ok(Self {
            issuer: issuer.to_owned(),
            place: place.to_owned(),
            prefix: prefix.map_err(|_| IssuerError::Place(place.to_owned()))?,
            cache_for: CACHE_FOR,
            keys: RwLock::new(vec![Arc::new(SigningKey::generate(algorithm)?)]),
        })
    }

    /// The same issuer, whose documents may be cached for another time than an hour.
    #[must_use]
    pub fn cached_for(self, cache_for: Duration) -> Self {
        Self { cache_for, ..self }
    }

    /// What tokens carry as `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where the key set can be fetched: `jwks_uri` of the discovery document.
    pub fn jwks_uri(&self) -> String {
        format!("{}{JWKS_PATH}", self.place)
    }

    /// The key that signs.
    pub fn signing_key(&self) -> Arc<SigningKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&keys[keys.len() - 1])
    }

    /// Every published key, the signing one last.
    pub fn published_keys(&self) -> Vec<Arc<SigningKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a new key, which signs and is published from now on; the ones before stay published.
    ///
    /// # Errors
    ///
    /// No key could be made; nothing has changed then.
    pub fn rotate(&self, algorithm: KeyAlgorithm) -> Result<Arc<SigningKey>, IssuerError> {
        let key = Arc::new(SigningKey::generate(algorithm)?);
        self.keys.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&key));
        Ok(key)
    }

    /// Takes a key out of the published set, and says whether it was there to be taken. The signing
    /// key never is.
    pub fn withdraw(&self, kid: &str) -> bool {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let last = keys.len() - 1;
        match keys.iter().position(|key| key.kid() == kid) {
            Some(place) if place < last => {
                keys.remove(place);
                true
            }
            _ => false,
        }
    }

    /// Signs a token for a service account, as the TokenRequest API gives it to kubelet.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Cryptography`].
    pub fn mint(&self, request: &TokenRequest) -> Result<String, IssuerError> {
        self.sign(&self.signing_key().header().to_string(), &self.claims(request).to_string())
    }

    /// The claims that [`Issuer::mint`] would sign, for whoever wants to change them first.
    pub fn claims(&self, request: &TokenRequest) -> serde_json::Value {
        request.claims(&self.issuer)
    }

    /// Signs any header and any claims with the signing key, whatever they say: a test's way to
    /// malformed tokens. [`SigningKey::header`] has the right header; [`forgery`] has signatures that
    /// are none.
    ///
    /// # Errors
    ///
    /// [`IssuerError::Cryptography`].
    pub fn sign(&self, header_json: &str, claims_json: &str) -> Result<String, IssuerError> {
        self.signing_key().sign_token(header_json, claims_json)
    }

    /// The key set, as it is served.
    pub fn jwks(&self) -> Vec<u8> {
        documents::jwks(&self.published_keys())
    }

    /// Answers a request for one of the two documents; 404 and 405 for everything else.
    pub fn handle(&self, parts: &Parts) -> Response<Bytes> {
        let keys = self.published_keys();
        let (media_type, body) = match parts.uri.path().strip_prefix(&self.prefix) {
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
