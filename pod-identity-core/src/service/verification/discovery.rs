//! Discovery of the keys of an issuer, from the first token that the upstream accepted.
//!
//! An issuer whose token the upstream accepts for the cluster is the cluster's issuer, so the service fetches its
//! public keys. Once they verify a token that the upstream accepted, the service verifies tokens of that issuer
//! itself. Then a token that kubelet has replaced needs no call, and an outage of the upstream does not affect pods
//! with valid credentials.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::super::{Clock, Issuer, ServiceConfig};
use crate::sync::{AtomicU64, Mutex, lock};
use crate::token::{POD_IDENTITY_AUDIENCE, PodToken, TokenError, VerifiedToken};

type MakeIssuer = dyn Fn(&str) -> Option<Issuer> + Send + Sync;

/// The discovered issuer, and whether its keys are confirmed.
pub(super) struct KeyDiscovery {
    make: Box<MakeIssuer>,
    /// One issuer, as a cluster has. The upstream verifies tokens of other issuers, and of an issuer without https
    /// URL.
    issuer: OnceLock<Issuer>,
    /// An accepted token of the issuer, to confirm the keys with.
    sample: Mutex<Option<PodToken>>,
    /// Whether the keys have verified an accepted token.
    confirmed: AtomicBool,
    /// Notified if there are keys to fetch: those of an issuer, or an unknown key of an accepted token.
    wanted: Arc<Notify>,
    other_issuer_seen: AtomicBool,
    running: OnceLock<Running>,
}

struct Running {
    clock: Clock,
    config: ServiceConfig,
    changes: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KeyDiscovery {
    pub(super) fn new(make: Box<MakeIssuer>) -> Self {
        Self {
            make,
            issuer: OnceLock::new(),
            sample: Mutex::default(),
            confirmed: AtomicBool::new(false),
            wanted: Arc::default(),
            other_issuer_seen: AtomicBool::new(false),
            running: OnceLock::new(),
        }
    }

    /// Makes a discovery that has found its issuer.
    pub(super) fn of(issuer: Issuer) -> Self {
        let found = Self::new(Box::new(|_| None));
        Self { issuer: OnceLock::from(issuer.discovered()), confirmed: AtomicBool::new(true), ..found }
    }

    pub(super) fn start(self: &Arc<Self>, clock: &Clock, config: &ServiceConfig, changes: &Arc<AtomicU64>) {
        if let Some(issuer) = self.issuer.get() {
            issuer.start(clock, config, changes, false);
        }
        self.running.get_or_init(|| {
            let following = follow(Arc::downgrade(self), self.wanted.clone(), clock.clone());
            let task = tokio::spawn(following).abort_handle();
            Running { clock: clock.clone(), config: config.clone(), changes: changes.clone(), task }
        });
    }

    /// Returns the issuer, once its keys have verified a token that the upstream accepted.
    pub(super) fn confirmed_issuer(&self) -> Option<&Issuer> {
        self.issuer.get().filter(|_| self.confirmed.load(Ordering::Acquire))
    }

    /// Verifies a token with the keys. Returns an error if they disprove the token or it has expired. Returns `None`
    /// for any other token that they do not verify: the upstream may know other keys, issuers and algorithms.
    pub(super) fn verify(
        &self,
        token: &PodToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<Option<VerifiedToken>, TokenError> {
        let issuer = self.confirmed_issuer().filter(|issuer| issuer.url() == token.unverified_issuer());
        let Some(issuer) = issuer else { return Ok(None) };
        match issuer.verify_now(token, audience, now) {
            Ok(verified) => Ok(Some(verified)),
            Err(
                disproved @ (TokenError::SignatureInvalid
                | TokenError::AlgorithmNotOfKey { .. }
                | TokenError::Expired { .. }),
            ) => Err(disproved),
            Err(_) => Ok(None),
        }
    }

    /// Discovers keys with a token that the upstream has accepted.
    pub(super) fn accepted(&self, token: &PodToken, audience: &str, now: SystemTime) {
        let claimed = token.unverified_issuer();
        let Some(issuer) = self.issuer.get().or_else(|| self.begin(claimed)) else { return };
        if issuer.url() != claimed {
            if !self.other_issuer_seen.swap(true, Ordering::Relaxed) {
                let discovered = issuer.url();
                tracing::info!(issuer = claimed, discovered, "upstream accepted a token of another issuer");
            }
        } else if let Err(TokenError::KeyUnknown { .. }) = self.confirm(issuer, token, audience, now) {
            self.wanted.notify_one();
        }
    }

    fn begin(&self, claimed: &str) -> Option<&Issuer> {
        let running = self.running.get()?;
        let Some(issuer) = (self.make)(claimed) else {
            tracing::debug!(issuer = claimed, "keys of this issuer cannot be discovered");
            return None;
        };
        let issuer = self.issuer.get_or_init(|| issuer.discovered());
        issuer.start(&running.clock, &running.config, &running.changes, false);
        self.wanted.notify_one();
        Some(issuer)
    }

    /// Confirms the keys with an accepted token.
    fn confirm(
        &self,
        issuer: &Issuer,
        token: &PodToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<(), TokenError> {
        let result = issuer.verify_now(token, audience, now).map(drop);
        if self.confirmed.load(Ordering::Acquire) {
            return result;
        }
        match &result {
            Ok(()) => {
                self.confirmed.store(true, Ordering::Release);
                *lock(&self.sample) = None;
                tracing::info!(
                    issuer = issuer.url(),
                    "keys of this issuer confirmed; its tokens are verified here from now on"
                );
            }
            Err(TokenError::KeysMissing | TokenError::KeyUnknown { .. }) => {
                *lock(&self.sample) = Some(token.clone());
            }
            Err(error) => {
                tracing::debug!(issuer = issuer.url(), %error, "keys do not verify a token that the upstream accepted");
            }
        }
        result
    }
}

/// Fetches keys once there is an issuer, and keeps them fresh until the discovery is dropped.
async fn follow(discovery: Weak<KeyDiscovery>, wanted: Arc<Notify>, clock: Clock) {
    loop {
        let Some(current) = discovery.upgrade() else { return };
        let Some(issuer) = current.issuer.get() else {
            drop(current);
            wanted.notified().await;
            continue;
        };
        let pause = issuer.fetch_if_due().await;
        let sample = lock(&current.sample).take();
        if let Some(token) = sample {
            // A failure is logged in `confirm`.
            let _ = current.confirm(issuer, &token, POD_IDENTITY_AUDIENCE, clock.now().wall);
        }
        drop(current);
        either(clock.sleep(pause), wanted.notified()).await;
    }
}

/// Waits for the first of two events.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    std::future::poll_fn(|context| {
        if one.as_mut().poll(context).is_ready() {
            std::task::Poll::Ready(())
        } else {
            other.as_mut().poll(context)
        }
    })
    .await;
}

impl fmt::Debug for KeyDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyDiscovery")
            .field("issuer", &self.issuer)
            .field("confirmed", &self.confirmed)
            .finish_non_exhaustive()
    }
}
