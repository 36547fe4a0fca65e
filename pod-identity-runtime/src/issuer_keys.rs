//! The public keys of a cluster's issuer: fetched, kept, fetched again when they rotate.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use pod_identity_core::token::{
    BearerToken, Expected, KeySet, KeySetError, TokenError, VerifiedToken, verify,
};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::clock;
use crate::outbound::{Getter, Outbound, OutboundError};
use crate::shutdown::Shutdown;

/// The least time between two fetches, whoever asks: unknown key ids, which anybody can invent,
/// must not become a flood at the issuer.
pub const REFETCH_INTERVAL: Duration = Duration::from_secs(30);
/// How often keys are fetched without a reason, so that withdrawn ones go.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// The least time between two fetches while there are no keys at all.
const FIRST_RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How long a fetch may take, with all that it reads.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);
/// The largest discovery document or key set that is read.
const MAX_DOCUMENT: usize = 256 * 1024;

/// Where an issuer's keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLocation {
    /// At the `jwks_uri` of the issuer's discovery document (OpenID Connect Discovery 1.0, §4).
    Discovery,
    /// At this URL.
    Url(String),
    /// In this file, which is read again at each fetch.
    File(PathBuf),
}

/// How an issuer's keys are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// The exact issuer of the cluster's tokens.
    pub issuer: String,
    /// Where its keys are.
    pub keys: KeyLocation,
    /// A file with a bearer token to send, read at each fetch: kube-apiserver serves its keys to
    /// authenticated clients only, unless told otherwise.
    pub bearer_token_file: Option<PathBuf>,
    /// How to connect.
    pub outbound: Outbound,
}

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
        reason: std::io::Error,
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

#[derive(Deserialize)]
struct DiscoveryDocument {
    issuer: String,
    jwks_uri: String,
}

/// An issuer and the newest of its keys that could be had. While the issuer is away the old ones
/// stay in use.
#[derive(Debug)]
pub struct IssuerKeys {
    config: IssuerConfig,
    getter: Getter,
    current: ArcSwapOption<KeySet>,
    /// The document that the keys came from.
    document: ArcSwapOption<Bytes>,
    generation: AtomicU64,
    fetched: Mutex<Option<Instant>>,
}

impl IssuerKeys {
    /// An issuer whose keys have not been fetched yet.
    ///
    /// # Errors
    /// Where its CA file cannot be read.
    pub fn new(config: IssuerConfig) -> Result<Arc<Self>, OutboundError> {
        let getter = config.outbound.getter()?;
        Ok(Arc::new(Self {
            config,
            getter,
            current: ArcSwapOption::empty(),
            document: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            fetched: Mutex::new(None),
        }))
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Counts the changes of the keys: what was verified under an earlier number may have been verified
    /// with a key that has been withdrawn since.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The keys, if any have been had.
    pub fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Verifies a token of this issuer. A key that is not known may be a new one: then the keys are
    /// fetched first, unless they just were; within [`REFETCH_INTERVAL`] the token is refused as
    /// [`TokenError::KeyUnknown`], which is worth a retry, never as invalid.
    ///
    /// # Errors
    /// [`TokenError`], see [`verify`].
    pub async fn verify(
        self: &Arc<Self>,
        token: &BearerToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<VerifiedToken, TokenError> {
        let known = self.current();
        let first = self.verify_now(token, audience, now);
        let Err(TokenError::KeyUnknown { .. } | TokenError::KeysMissing) = first else { return first };
        // A failed fetch has been logged; the keys that are there decide.
        let _ = self.fetch_if_due().await;
        match self.current() {
            Some(keys) if !known.is_some_and(|known| Arc::ptr_eq(&known, &keys)) => {
                self.verify_now(token, audience, now)
            }
            _ => first,
        }
    }

    /// Verifies a token with the keys that are there, without fetching any.
    ///
    /// # Errors
    /// [`TokenError`], see [`verify`]; [`TokenError::KeyUnknown`] where there are no keys yet.
    pub fn verify_now(
        &self,
        token: &BearerToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<VerifiedToken, TokenError> {
        let expected = Expected { issuer: self.config.issuer.clone(), audience: audience.to_owned() };
        match self.current() {
            Some(keys) => verify(token, &keys, &expected, now),
            None => Err(TokenError::KeysMissing),
        }
    }

    /// Fetches the keys, unless they were fetched within [`REFETCH_INTERVAL`] (or within 2 s, where
    /// that failed and there are none); says whether it did. Whoever comes meanwhile waits for the same
    /// fetch. It is a task of its own: a client that hangs up neither ends it nor makes another one due.
    ///
    /// # Errors
    /// [`FetchError`] where they could not be had; the old ones stay in use.
    pub async fn fetch_if_due(self: &Arc<Self>) -> Result<bool, FetchError> {
        let keys = self.clone();
        let fetching = tokio::spawn(async move { keys.fetch_in_turn().await });
        fetching.await.unwrap_or(Err(FetchError::GivenUp))
    }

    async fn fetch_in_turn(&self) -> Result<bool, FetchError> {
        let mut fetched = self.fetched.lock().await;
        let interval = if self.current.load().is_some() { REFETCH_INTERVAL } else { FIRST_RETRY_INTERVAL };
        if fetched.is_some_and(|at| at.elapsed() < interval) {
            return Ok(false);
        }
        let result =
            tokio::time::timeout(FETCH_DEADLINE, self.fetch()).await.unwrap_or(Err(FetchError::TooSlow));
        *fetched = Some(clock::monotonic());
        match result {
            Ok((keys, document)) => {
                self.take(keys, document);
                Ok(true)
            }
            Err(error) => {
                tracing::error!(issuer = self.config.issuer, %error, "the issuer's keys could not be fetched");
                Err(error)
            }
        }
    }

    /// By the document, not by the keys' ids: another key may come under an old id.
    fn take(&self, keys: KeySet, document: Bytes) {
        let ids: Vec<&str> = keys.key_ids().collect();
        let changed = self.document.load().as_deref() != Some(&document);
        if changed {
            tracing::info!(issuer = self.config.issuer, keys = ?ids, "the issuer's keys are in use");
            for (key, reason) in keys.unusable() {
                tracing::warn!(issuer = self.config.issuer, key, reason, "a published key cannot be used");
            }
        }
        self.current.store(Some(Arc::new(keys)));
        self.document.store(Some(Arc::new(document)));
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// Keeps the keys fresh until the shutdown.
    pub async fn follow(self: Arc<Self>, mut shutdown: Shutdown) {
        loop {
            let pause = match self.fetch_if_due().await {
                Ok(true) => REFRESH_INTERVAL,
                // Somebody else fetched, or it failed: what came of it shows soon.
                _ if self.current.load().is_some() => REFETCH_INTERVAL,
                _ => FIRST_RETRY_INTERVAL,
            };
            tokio::select! {
                () = shutdown.asked() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn fetch(&self) -> Result<(KeySet, Bytes), FetchError> {
        let bearer = match &self.config.bearer_token_file {
            Some(path) => Some(read(path)?),
            None => None,
        };
        let bearer = bearer.as_deref().and_then(|token| std::str::from_utf8(token).ok()).map(str::trim);
        let jwks = match &self.config.keys {
            KeyLocation::File(path) => read(path)?.into(),
            KeyLocation::Url(url) => self.getter.get(url, bearer, MAX_DOCUMENT).await?,
            KeyLocation::Discovery => {
                let url = self.discover(bearer).await?;
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

fn same_server(one: &str, other: &str) -> bool {
    let server = |url: &str| url.parse::<http::Uri>().ok().and_then(|uri| uri.authority().cloned());
    server(one).is_some() && server(one) == server(other)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, FetchError> {
    std::fs::read(path).map_err(|reason| FetchError::File { path: path.clone(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An EC key of RFC 7517, appendix A.1, under another id.
    fn key_set(key_id: &str) -> String {
        format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"{key_id}",
            "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}}]}}"#
        )
    }

    fn key_ids(keys: &IssuerKeys) -> Vec<String> {
        keys.current().unwrap().key_ids().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn old_keys_stay_in_use_while_new_ones_cannot_be_had() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keys");
        let config = IssuerConfig {
            issuer: "https://oidc.pod-identity.test/demo".to_owned(),
            keys: KeyLocation::File(file.clone()),
            bearer_token_file: None,
            outbound: Outbound::default(),
        };
        let keys = IssuerKeys::new(config).unwrap();
        std::fs::write(&file, key_set("old")).unwrap();
        keys.fetch_if_due().await.unwrap();

        for broken in [None, Some(""), Some("<html>"), Some(r#"{"keys": []}"#)] {
            match broken {
                None => std::fs::remove_file(&file).unwrap(),
                Some(text) => std::fs::write(&file, text).unwrap(),
            }
            *keys.fetched.lock().await = None; // as if the interval had passed
            assert!(keys.fetch_if_due().await.is_err(), "{broken:?}");
            assert_eq!(key_ids(&keys), ["old"], "{broken:?}");
        }
        std::fs::write(&file, key_set("new")).unwrap();
        keys.fetch_if_due().await.unwrap();
        assert_eq!(key_ids(&keys), ["old"], "fetched again within the interval");
        *keys.fetched.lock().await = None;
        keys.fetch_if_due().await.unwrap();
        assert_eq!(key_ids(&keys), ["new"]);
    }
}
