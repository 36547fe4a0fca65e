//! The public keys of a cluster's issuer: fetched, kept, fetched again when they rotate.

mod accepted;
mod documents;

pub use accepted::AcceptedIssuers;
pub use documents::FetchError;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use pod_identity_core::token::{BearerToken, Expected, KeySet, TokenError, VerifiedToken, verify};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use self::documents::{Documents, Origin};
use crate::clock::Clock;
use crate::outbound::{Outbound, OutboundError};
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
/// The most requests that wait for a fetch. An issuer that hangs holds each of them for seconds, and each
/// has one of the 4,096 connections of its listener, which those need too whose keys are known. Anybody can
/// invent key ids: who comes beyond is refused at once, as worth a retry.
pub const MAX_WAITING: usize = 256;

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

/// An issuer and the newest of its keys that could be had. While the issuer is away the old ones
/// stay in use.
#[derive(Debug)]
pub struct IssuerKeys {
    documents: Documents,
    clock: Clock,
    current: ArcSwapOption<KeySet>,
    /// The document that the keys came from.
    document: ArcSwapOption<Bytes>,
    generation: AtomicU64,
    /// When the keys were last fetched, in milliseconds by the monotonic clock; 0 before.
    fetched_at: AtomicU64,
    fetched: Arc<Mutex<Fetched>>,
    waiting: Semaphore,
}

/// The last attempt to fetch.
#[derive(Debug, Default)]
struct Fetched {
    /// When, by the monotonic clock.
    at: Option<Duration>,
    /// Why it failed, if it did.
    failure: Option<String>,
}

impl IssuerKeys {
    /// An issuer whose keys have not been fetched yet.
    ///
    /// # Errors
    /// Where its CA file cannot be read.
    pub fn new(config: IssuerConfig) -> Result<Arc<Self>, OutboundError> {
        Self::with_clock(config, Clock::default())
    }

    /// The same, by another clock than the system's.
    ///
    /// # Errors
    /// Where its CA file cannot be read.
    pub fn with_clock(config: IssuerConfig, clock: Clock) -> Result<Arc<Self>, OutboundError> {
        Self::of(config, Origin::Configured, clock)
    }

    /// An issuer that nobody configured, named by a token that somebody who may judge has accepted. Its
    /// keys are had by discovery, over https only at both documents, without a bearer token, and never
    /// more often than every [`REFETCH_INTERVAL`]. That they cannot be had is a warning, said once.
    ///
    /// # Errors
    /// Where the issuer is no https URL, or the CA file cannot be read.
    pub fn learned(issuer: String, outbound: Outbound, clock: Clock) -> Result<Arc<Self>, OutboundError> {
        let config = IssuerConfig { issuer, keys: KeyLocation::Discovery, bearer_token_file: None, outbound };
        Self::of(config, Origin::Learned, clock)
    }

    fn of(config: IssuerConfig, origin: Origin, clock: Clock) -> Result<Arc<Self>, OutboundError> {
        Ok(Arc::new(Self {
            documents: Documents::new(config, origin)?,
            clock,
            current: ArcSwapOption::empty(),
            document: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            fetched_at: AtomicU64::new(0),
            fetched: Arc::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }))
    }

    /// The issuer.
    pub fn issuer(&self) -> &str {
        self.documents.issuer()
    }

    /// Counts the changes of the keys: what was verified under an earlier number may have been verified
    /// with a key that has been withdrawn since.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The time since the keys were last fetched; `None` before the first fetch.
    pub fn age(&self) -> Option<Duration> {
        let at = self.fetched_at.load(Ordering::Relaxed);
        let now = self.clock.now().monotonic;
        (at > 0).then(|| now.saturating_sub(Duration::from_millis(at)))
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
        self.fetch_for_request().await;
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
        let expected = Expected { issuer: self.issuer().to_owned(), audience: audience.to_owned() };
        match self.current() {
            Some(keys) => verify(token, &keys, &expected, now),
            None => Err(TokenError::KeysMissing),
        }
    }

    /// Fetches the keys, unless they were fetched within [`REFETCH_INTERVAL`] (or within 2 s, where
    /// that failed and there are none of a configured issuer); says whether it did. Whoever comes meanwhile
    /// waits for the same fetch. It is a task of its own: a client that hangs up neither ends it nor makes
    /// another one due.
    ///
    /// # Errors
    /// [`FetchError`] where they could not be had; the old ones stay in use.
    pub async fn fetch_if_due(self: &Arc<Self>) -> Result<bool, FetchError> {
        let fetched = self.fetched.clone().lock_owned().await;
        let now = self.clock.now().monotonic;
        if fetched.at.is_some_and(|at| now.saturating_sub(at) < self.retry_interval()) {
            return Ok(false);
        }
        let keys = self.clone();
        let fetching = tokio::spawn(async move { keys.fetch(fetched).await });
        fetching.await.unwrap_or(Err(FetchError::GivenUp))
    }

    /// The same for a request whose key is not known, which anybody can send: no more than [`MAX_WAITING`]
    /// of them wait. What came of it the keys that are there now tell; a failure has been logged.
    pub async fn fetch_for_request(self: &Arc<Self>) {
        if let Ok(_place) = self.waiting.try_acquire() {
            let _ = self.fetch_if_due().await;
        }
    }

    async fn fetch(&self, mut fetched: OwnedMutexGuard<Fetched>) -> Result<bool, FetchError> {
        let result = tokio::time::timeout(FETCH_DEADLINE, self.documents.fetch())
            .await
            .unwrap_or(Err(FetchError::TooSlow));
        fetched.at = Some(self.clock.now().monotonic);
        match result {
            Ok((keys, document)) => {
                fetched.failure = None;
                let now = u64::try_from(self.clock.now().monotonic.as_millis()).unwrap_or(u64::MAX);
                self.fetched_at.store(now.max(1), Ordering::Relaxed);
                self.take(keys, document);
                Ok(true)
            }
            Err(error) => {
                let failure = fetched.failure.replace(error.to_string());
                self.log_failure(&error, failure.as_deref());
                Err(error)
            }
        }
    }

    /// The least time between two fetches.
    fn retry_interval(&self) -> Duration {
        match self.documents.origin() {
            Origin::Configured if self.current.load().is_none() => FIRST_RETRY_INTERVAL,
            _ => REFETCH_INTERVAL,
        }
    }

    fn log_failure(&self, error: &FetchError, before: Option<&str>) {
        let issuer = self.documents.issuer();
        match self.documents.origin() {
            Origin::Configured => {
                tracing::error!(issuer, %error, "the issuer's keys could not be fetched");
            }
            // Whoever cannot be reached today will mostly not be reached tomorrow: said once is enough.
            Origin::Learned if before != Some(&error.to_string()) => {
                tracing::warn!(issuer, %error, "the keys of the issuer of accepted tokens could not be fetched");
            }
            Origin::Learned => {}
        }
    }

    /// By the document, not by the keys' ids: another key may come under an old id.
    fn take(&self, keys: KeySet, document: Bytes) {
        let ids: Vec<&str> = keys.key_ids().collect();
        let changed = self.document.load().as_deref() != Some(&document);
        if changed {
            tracing::info!(issuer = self.documents.issuer(), keys = ?ids, "the issuer's keys are in use");
            for (key, reason) in keys.unusable() {
                tracing::warn!(
                    issuer = self.documents.issuer(),
                    key,
                    reason,
                    "a published key cannot be used"
                );
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
            let pause = self.refresh().await;
            tokio::select! {
                () = shutdown.asked() => return,
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// One step of [`follow`](Self::follow), for whoever has something to do between two of them: fetches
    /// the keys if they may be fetched, and says how long to wait until the next step.
    pub async fn refresh(self: &Arc<Self>) -> Duration {
        match self.fetch_if_due().await {
            Ok(true) => REFRESH_INTERVAL,
            // Somebody else fetched, or it failed: what came of it shows soon.
            _ => self.retry_interval(),
        }
    }
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
        let (hand, clock) = Clock::by_hand(SystemTime::UNIX_EPOCH);
        let keys = IssuerKeys::with_clock(config, clock).unwrap();
        std::fs::write(&file, key_set("old")).unwrap();
        keys.fetch_if_due().await.unwrap();

        for broken in [None, Some(""), Some("<html>"), Some(r#"{"keys": []}"#)] {
            match broken {
                None => std::fs::remove_file(&file).unwrap(),
                Some(text) => std::fs::write(&file, text).unwrap(),
            }
            hand.advance(REFETCH_INTERVAL);
            assert!(keys.fetch_if_due().await.is_err(), "{broken:?}");
            assert_eq!(key_ids(&keys), ["old"], "{broken:?}");
        }
        std::fs::write(&file, key_set("new")).unwrap();
        keys.fetch_if_due().await.unwrap();
        assert_eq!(key_ids(&keys), ["old"], "fetched again within the interval");
        hand.advance(REFETCH_INTERVAL);
        keys.fetch_if_due().await.unwrap();
        assert_eq!(key_ids(&keys), ["new"]);
    }
}
