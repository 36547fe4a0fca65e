//! Fetching of an issuer's JSON Web Key Set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pod_identity_core::service::Issuer;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::files::{MAX_TOKEN, ReadError, read_in_background};
use crate::outbound::{Getter, Outbound, OutboundError, check_url};

/// Maximum size of a discovery document or key set, in bytes.
const MAX_DOCUMENT: usize = 256 * 1024;

/// The location of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLocation {
    /// At the `jwks_uri` of the issuer's discovery document (OpenID Connect Discovery 1.0, §4).
    Discovery,
    /// At this URL.
    Url(String),
    /// In this file, which is read again at each fetch.
    File(PathBuf),
}

/// Settings for fetching an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// Exact issuer of the cluster's tokens.
    pub issuer: String,
    /// The location of its keys.
    pub keys: KeyLocation,
    /// File with a bearer token for the issuer, read at each fetch. By default, kube-apiserver serves its keys only to
    /// authenticated clients.
    pub bearer_token_file: Option<PathBuf>,
    /// Settings of the connections.
    pub outbound: Outbound,
}

/// Error of fetching keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The document could not be fetched.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// A file could not be read.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: ReadError,
    },
    /// The discovery document cannot be used.
    #[error("the discovery document of {issuer}: {reason}")]
    Discovery {
        /// The issuer.
        issuer: String,
        /// The reason.
        reason: String,
    },
}

/// The source of an issuer's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IssuerSource {
    /// An operator, in the configuration.
    Operator,
    /// A token that the upstream accepted.
    Token,
}

#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the key set of one issuer.
#[derive(Debug)]
pub struct KeyFetcher {
    config: IssuerConfig,
    source: IssuerSource,
    getter: Getter,
}

impl KeyFetcher {
    /// Makes a fetcher for an issuer of the configuration.
    ///
    /// # Errors
    /// [`OutboundError`] if the CA file cannot be read, or if there is no CA certificate for https.
    pub fn new(config: IssuerConfig) -> Result<Self, OutboundError> {
        match &config.keys {
            KeyLocation::Discovery => config.outbound.check_ca_certificates(Some(&config.issuer))?,
            KeyLocation::Url(url) => config.outbound.check_ca_certificates(Some(url))?,
            KeyLocation::File(_) => {}
        }
        let getter = config.outbound.getter()?;
        Ok(Self { config, source: IssuerSource::Operator, getter })
    }

    /// Makes a fetcher for an issuer that was discovered from an accepted token. It uses discovery, fetches both
    /// documents over https, and sends no bearer token.
    ///
    /// # Errors
    /// [`OutboundError`] if the issuer is not an https URL, or the CA file cannot be read.
    pub fn discovered(issuer: String, outbound: Outbound) -> Result<Self, OutboundError> {
        check_https(&issuer)?;
        let getter = outbound.getter()?;
        let config = IssuerConfig { issuer, keys: KeyLocation::Discovery, bearer_token_file: None, outbound };
        Ok(Self { config, source: IssuerSource::Token, getter })
    }

    /// Converts the fetcher into an issuer for a credential service.
    pub fn into_issuer(self) -> Issuer {
        let (url, fetcher) = (self.config.issuer.clone(), Arc::new(self));
        Issuer::fetched(url, move || {
            let fetcher = fetcher.clone();
            async move { Ok(fetcher.fetch().await?.to_vec()) }
        })
    }

    /// Fetches the key set.
    ///
    /// # Errors
    /// [`FetchError`] with the document that could not be read.
    pub async fn fetch(&self) -> Result<Bytes, FetchError> {
        let bearer = match &self.config.bearer_token_file {
            Some(path) => Some(read(path, MAX_TOKEN).await?),
            None => None,
        };
        let bearer = bearer.as_deref().map(|token| token.trim());
        Ok(match &self.config.keys {
            KeyLocation::File(path) => read(path, MAX_DOCUMENT).await?.as_bytes().to_vec().into(),
            KeyLocation::Url(url) => self.getter.get(url, bearer, MAX_DOCUMENT).await?,
            KeyLocation::Discovery => {
                let url = self.discover(bearer).await?;
                if self.source == IssuerSource::Token {
                    check_https(&url)?;
                }
                // The bearer token is only for the issuer's own server, not for another server in its discovery
                // document.
                let bearer = bearer.filter(|_| same_server(&url, &self.config.issuer));
                self.getter.get(&url, bearer, MAX_DOCUMENT).await?
            }
        })
    }

    async fn discover(&self, bearer: Option<&str>) -> Result<String, FetchError> {
        let issuer = &self.config.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = self.getter.get(&url, bearer, MAX_DOCUMENT).await?;
        let wrong = |reason| FetchError::Discovery { issuer: issuer.clone(), reason };
        let document: DiscoveryDocument =
            pod_identity_core::json::from_slice(&document).map_err(|error| wrong(error.to_string()))?;
        // OpenID Connect Discovery 1.0 §4.3: the two must be identical.
        if document.issuer != *issuer {
            return Err(wrong(format!(
                "its issuer is {:?}, want the exact URL of the configuration",
                document.issuer
            )));
        }
        Ok(document.jwks_uri)
    }
}

/// Rejects http for a discovered issuer, also on loopback, where other services than an issuer listen.
fn check_https(url: &str) -> Result<(), OutboundError> {
    match check_url(url)?.scheme_str() {
        Some("https") => Ok(()),
        _ => {
            let reason = "want https for discovered keys";
            Err(OutboundError::Url { url: url.to_owned(), reason })
        }
    }
}

fn same_server(one: &str, other: &str) -> bool {
    let server = |url: &str| url.parse::<http::Uri>().ok().and_then(|uri| uri.authority().cloned());
    server(one).is_some() && server(one) == server(other)
}

async fn read(path: &Path, limit: usize) -> Result<Zeroizing<String>, FetchError> {
    let read = read_in_background(path, limit).await;
    read.map_err(|reason| FetchError::File { path: path.to_owned(), reason })
}
