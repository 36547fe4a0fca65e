//! An issuer and its keys: fetches and rotation.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};
use tokio::task::AbortHandle;

use super::{BoxFuture, Clock, ServiceConfig};
use crate::sync::{AtomicU64, lock};
use crate::token::{Expected, KeySet, PodToken, TokenError, VerifiedToken, verify};

/// Pause after a failed fetch while there are no keys.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// Maximum time of a fetch.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum time for which a request waits for a fetch. The fetch goes on.
const WAIT: Duration = Duration::from_secs(3);
/// Maximum size of a key set in a file, in bytes.
const MAX_FILE: u64 = 256 * 1024;
/// Maximum number of requests that wait for a fetch of one issuer. A hanging issuer blocks each of them for seconds,
/// and any client can invent key ids. Further requests are refused at once with a retryable error.
pub(crate) const MAX_WAITING: usize = 256;

type FetchError = Box<dyn Error + Send + Sync>;
type Fetch = dyn Fn() -> BoxFuture<'static, Result<Vec<u8>, FetchError>> + Send + Sync;

/// An issuer of pod tokens, with its public keys. Clones share the keys.
///
/// The service fetches the keys every 5 minutes, and at most every 30 s when a token has an unknown key id. If a fetch
/// fails, the old keys stay in use. [`Builder::build`](super::Builder::build) starts the first fetch and does not wait
/// for it.
///
/// ```
/// use pod_identity_core::service::Issuer;
///
/// let from_file = Issuer::file("https://oidc.example.com/demo", "/etc/pod-identity/jwks.json");
/// let fetched = Issuer::fetched("https://oidc.example.com/demo", || async {
///     Ok(br#"{"keys": []}"#.to_vec()) // a GET request of the issuer's JWKS
/// });
/// assert_eq!(from_file.url(), fetched.url());
/// ```
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

struct Inner {
    url: String,
    fetch: Option<Box<Fetch>>,
    /// Whether the issuer was discovered from an accepted token instead of configured.
    discovered: bool,
    keys: ArcSwapOption<KeySet>,
    /// The document with the current keys.
    document: ArcSwapOption<Vec<u8>>,
    /// Time of the last successful fetch, in milliseconds of the monotonic clock; 0 before the first one.
    fetched_at: AtomicU64,
    last_fetch: Arc<Mutex<LastFetch>>,
    waiting: Semaphore,
    running: OnceLock<Running>,
    /// Counters of the services that use the issuer. Each change of the keys increments them.
    changes: crate::sync::Mutex<Vec<Weak<AtomicU64>>>,
}

/// The task that keeps the keys fresh, and its settings.
#[derive(Debug)]
struct Running {
    clock: Clock,
    refresh: Duration,
    refetch: Duration,
    task: Option<AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[derive(Debug, Default)]
struct LastFetch {
    at: Option<Duration>,
    failure: Option<String>,
}

impl Issuer {
    /// Makes an issuer with fixed keys.
    pub fn fixed(url: impl Into<String>, keys: KeySet) -> Self {
        let issuer = Self::new(url.into(), None, false);
        issuer.0.keys.store(Some(Arc::new(keys)));
        issuer
    }

    /// Makes an issuer whose JWKS is a file of at most 256 KiB. Each fetch reads the file.
    pub fn file(url: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        Self::fetched(url, move || {
            let path = path.clone();
            async move {
                let reading = tokio::task::spawn_blocking(move || read(&path));
                reading.await.unwrap_or_else(|error| Err(error.into()))
            }
        })
    }

    /// Makes an issuer whose JWKS an async function fetches. A fetch has a deadline of 10 s.
    pub fn fetched<F>(url: impl Into<String>, fetch: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Vec<u8>, FetchError>> + Send + 'static,
    {
        Self::new(url.into(), Some(Box::new(move || Box::pin(fetch()))), false)
    }

    /// Marks the issuer as discovered. Then a failed fetch is a warning, which is logged once.
    pub(super) fn discovered(self) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Self(Arc::new(Inner { discovered: true, ..inner })),
            Err(shared) => Self(shared),
        }
    }

    fn new(url: String, fetch: Option<Box<Fetch>>, discovered: bool) -> Self {
        Self(Arc::new(Inner {
            url,
            fetch,
            discovered,
            keys: ArcSwapOption::empty(),
            document: ArcSwapOption::empty(),
            fetched_at: AtomicU64::new(0),
            last_fetch: Arc::default(),
            waiting: Semaphore::new(MAX_WAITING),
            running: OnceLock::new(),
            changes: crate::sync::Mutex::default(),
        }))
    }

    /// Returns the `iss` claim of the issuer's tokens.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Returns the keys, or `None` before the first successful fetch.
    pub fn keys(&self) -> Option<Arc<KeySet>> {
        self.0.keys.load_full()
    }

    /// Returns the time since the last successful fetch.
    #[doc(hidden)]
    pub fn age(&self) -> Option<Duration> {
        let running = self.0.running.get()?;
        let at = self.0.fetched_at.load(Ordering::Relaxed);
        let now = running.clock.now().monotonic;
        (at > 0).then(|| now.saturating_sub(Duration::from_millis(at)))
    }

    /// Keeps the keys fresh until the last clone is dropped, and increments `changes` with each change of the keys.
    /// `own_task` is false if the caller fetches the keys.
    pub(super) fn start(
        &self,
        clock: &Clock,
        config: &ServiceConfig,
        changes: &Arc<AtomicU64>,
        own_task: bool,
    ) {
        let mut listeners = lock(&self.0.changes);
        listeners.retain(|listener| listener.strong_count() > 0);
        if !listeners.iter().any(|listener| std::ptr::eq(listener.as_ptr(), Arc::as_ptr(changes))) {
            listeners.push(Arc::downgrade(changes));
        }
        drop(listeners);
        self.0.running.get_or_init(|| {
            let issuer = Arc::downgrade(&self.0);
            let task =
                (own_task && self.0.fetch.is_some()).then(|| tokio::spawn(follow(issuer)).abort_handle());
            let (refresh, refetch) = (config.key_refresh, config.key_refetch);
            Running { clock: clock.clone(), refresh, refetch, task }
        });
    }

    /// Verifies a token with the current keys.
    pub(super) fn verify_now(
        &self,
        token: &PodToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<VerifiedToken, TokenError> {
        let expected = Expected { issuer: self.url().to_owned(), audience: audience.to_owned() };
        match self.keys() {
            Some(keys) => verify(token, &keys, &expected, now),
            None => Err(TokenError::KeysMissing),
        }
    }

    /// Verifies a token. If its key is unknown, the keys are fetched first, unless they were fetched recently. A key
    /// that is still unknown is [`TokenError::KeyUnknown`], which is retryable.
    pub(super) async fn verify(
        &self,
        token: &PodToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<VerifiedToken, TokenError> {
        let known = self.keys();
        let first = self.verify_now(token, audience, now);
        let Err(TokenError::KeyUnknown { .. } | TokenError::KeysMissing) = first else { return first };
        if let Ok(_permit) = self.0.waiting.try_acquire() {
            let _ = tokio::time::timeout(WAIT, self.fetch_if_due()).await;
        }
        match self.keys() {
            Some(keys) if !known.is_some_and(|known| Arc::ptr_eq(&known, &keys)) => {
                self.verify_now(token, audience, now)
            }
            _ => first,
        }
    }

    /// Fetches the keys, unless they were fetched recently. Concurrent requests wait for the same fetch. The fetch is
    /// a separate task, so that a client that hangs up does not cancel it.
    ///
    /// Returns the pause until the next fetch.
    pub(super) async fn fetch_if_due(&self) -> Duration {
        let Some(running) = self.0.running.get().filter(|_| self.0.fetch.is_some()) else {
            return Duration::MAX;
        };
        let last_fetch = self.0.last_fetch.clone().lock_owned().await;
        let now = running.clock.now().monotonic;
        if last_fetch.at.is_some_and(|at| now.saturating_sub(at) < self.retry_pause(running)) {
            return self.retry_pause(running);
        }
        let issuer = self.clone();
        match tokio::spawn(async move { issuer.fetch(last_fetch).await }).await {
            Ok(true) => running.refresh,
            Ok(false) => self.retry_pause(running),
            Err(error) => {
                tracing::error!(issuer = self.url(), %error, "fetch of the issuer's keys panicked");
                self.retry_pause(running)
            }
        }
    }

    async fn fetch(&self, mut last_fetch: OwnedMutexGuard<LastFetch>) -> bool {
        let (Some(fetch), Some(running)) = (&self.0.fetch, self.0.running.get()) else { return false };
        // Set before the fetch, so that a fetch that panics is not repeated at once.
        last_fetch.at = Some(running.clock.now().monotonic);
        let fetched = tokio::time::timeout(FETCH_DEADLINE, fetch()).await.unwrap_or_else(|_| {
            Err(format!("the issuer sent no complete response within {} s", FETCH_DEADLINE.as_secs()).into())
        });
        last_fetch.at = Some(running.clock.now().monotonic);
        let fetched = fetched.and_then(|document| Ok((KeySet::from_jwks(&document)?, document)));
        match fetched {
            Ok((keys, document)) => {
                last_fetch.failure = None;
                let at = u64::try_from(running.clock.now().monotonic.as_millis()).unwrap_or(u64::MAX);
                self.0.fetched_at.store(at.max(1), Ordering::Relaxed);
                self.replace(keys, document);
                true
            }
            Err(error) => {
                let error = error.to_string();
                let before = last_fetch.failure.replace(error.clone());
                self.log_failure(&error, before.as_deref());
                false
            }
        }
    }

    fn retry_pause(&self, running: &Running) -> Duration {
        let first = !self.0.discovered && self.0.keys.load().is_none();
        if first { FIRST_RETRY.min(running.refetch) } else { running.refetch }
    }

    fn log_failure(&self, error: &str, before: Option<&str>) {
        let issuer = self.url();
        match self.0.discovered {
            false => tracing::error!(issuer, error, "issuer keys not fetched; old keys stay in use"),
            true if before != Some(error) => {
                tracing::warn!(issuer, error, "keys of the issuer of accepted tokens not fetched");
            }
            true => {}
        }
    }

    /// Replaces the keys. It compares documents instead of key ids, because a new key may have an old id.
    fn replace(&self, keys: KeySet, document: Vec<u8>) {
        let changed = self.0.document.load().as_deref() != Some(&document);
        if changed {
            let ids: Vec<&str> = keys.key_ids().collect();
            tracing::info!(issuer = self.url(), keys = ?ids, "issuer keys replaced");
            for (key, reason) in keys.unusable() {
                tracing::warn!(issuer = self.url(), key, reason, "published key cannot be used");
            }
        }
        self.0.keys.store(Some(Arc::new(keys)));
        self.0.document.store(Some(Arc::new(document)));
        if changed {
            for counter in lock(&self.0.changes).iter().filter_map(Weak::upgrade) {
                counter.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

/// Keeps the keys of an issuer fresh until its last clone is dropped.
async fn follow(issuer: Weak<Inner>) {
    loop {
        let Some(inner) = issuer.upgrade() else { return };
        let Some(clock) = inner.running.get().map(|running| running.clock.clone()) else {
            tokio::task::yield_now().await; // `start` has not returned
            continue;
        };
        let pause = Issuer(inner).fetch_if_due().await;
        clock.sleep(pause).await;
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, FetchError> {
    let wrong = |reason: String| -> FetchError { format!("{}: {reason}", path.display()).into() };
    let metadata = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    // Opening a FIFO waits for its writer, and reading a device may never end.
    if !metadata.is_file() {
        return Err(wrong("not a regular file".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut document = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut document).map_err(|error| wrong(error.to_string()))?;
    match document.len() as u64 > MAX_FILE {
        true => Err(wrong(format!("larger than {MAX_FILE} bytes"))),
        false => Ok(document),
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("url", &self.0.url)
            .field("keys", &self.0.keys.load())
            .finish_non_exhaustive()
    }
}
