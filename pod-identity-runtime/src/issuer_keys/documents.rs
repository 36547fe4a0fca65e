//! The documents by which an issuer publishes its keys.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use pod_identity_core::token::{KeySet, KeySetError};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{FETCH_DEADLINE, IssuerConfig, KeyLocation};
use crate::files::{MAX_TOKEN, ReadError, read_in_background};
use crate::outbound::{Getter, OutboundError, check_url};

/// The largest discovery document or key set that is read.
const MAX_DOCUMENT: usize = 256 * 1024;

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The document was not reached.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// A file was not read.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: ReadError,
    },
    /// The discovery document is of no use.
    #[error("the discovery document of {issuer}: {reason}")]
    Discovery {
        /// The issuer.
        issuer: String,
        /// Why.
        reason: String,
    },
    /// The key set is of no use.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
    /// The issuer began to answer and did not end.
    #[error("the issuer did not answer whole within {} s", FETCH_DEADLINE.as_secs())]
    TooSlow,
    /// The program is ending.
    #[error("the fetch was given up")]
    GivenUp,
}

/// How an issuer came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// An operator named it: nothing works without its keys.
    Configured,
    /// A token that was accepted named it: everything works without its keys.
    Learned,
}

#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
    jwks_uri: String,
}

/// Where an issuer's documents are, and how they are had.
#[derive(Debug)]
pub(super) struct Documents {
    config: IssuerConfig,
    origin: Origin,
    getter: Getter,
}

impl Documents {
    pub(super) fn new(config: IssuerConfig, origin: Origin) -> Result<Self, OutboundError> {
        if origin == Origin::Learned {
            check_https(&config.issuer)?;
        }
        let getter = config.outbound.getter()?;
        Ok(Self { config, origin, getter })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.config.issuer
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// The keys, and the document that they stand in.
    pub(super) async fn fetch(&self) -> Result<(KeySet, Bytes), FetchError> {
        let bearer = match &self.config.bearer_token_file {
            Some(path) => Some(read(path, MAX_TOKEN).await?),
            None => None,
        };
        let bearer = bearer.as_deref().map(|token| token.trim());
        let jwks = match &self.config.keys {
            KeyLocation::File(path) => read(path, MAX_DOCUMENT).await?.as_bytes().to_vec().into(),
            KeyLocation::Url(url) => self.getter.get(url, bearer, MAX_DOCUMENT).await?,
            KeyLocation::Discovery => {
                let url = self.discover(bearer).await?;
                if self.origin == Origin::Learned {
                    check_https(&url)?;
                }
                // The token is for the issuer's own server, not for whatever its document names.
                let bearer = bearer.filter(|_| same_server(&url, &self.config.issuer));
                self.getter.get(&url, bearer, MAX_DOCUMENT).await?
            }
        };
        Ok((KeySet::from_jwks(&jwks)?, jwks))
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
            return Err(wrong(format!("it is one of the issuer {:?}", document.issuer)));
        }
        Ok(document.jwks_uri)
    }
}

/// For what nobody configured http is refused on this machine too: there other services listen than an
/// issuer.
fn check_https(url: &str) -> Result<(), OutboundError> {
    match check_url(url)?.scheme_str() {
        Some("https") => Ok(()),
        _ => {
            let reason = "keys are learned over https only";
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
