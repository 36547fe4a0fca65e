//! Keys of the issuer whose token the upstream accepted first.
//!
//! An issuer that the upstream accepts for the cluster is the cluster's issuer. So the service fetches its public
//! keys, and once they verify a token that the upstream accepted, it verifies tokens of that issuer itself. Then a
//! token that kubelet has replaced needs no call, and an outage of the upstream harms no pod whose credentials are
//! valid.

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

/// The issuer that was learned, and whether its keys are proven.
pub(super) struct Learner {
    make: Box<MakeIssuer>,
    /// One issuer, as a cluster has. The upstream verifies tokens of a second one, and of one without https URL.
    issuer: OnceLock<Issuer>,
    /// An accepted token of the issuer, to try the keys on.
    sample: Mutex<Option<PodToken>>,
    /// Whether the keys have verified an accepted token.
    proven: AtomicBool,
    /// There is something to fetch: an issuer, or an accepted token of an unknown key.
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

impl Learner {
    pub(super) fn new(make: Box<MakeIssuer>) -> Self {
        Self {
            make,
            issuer: OnceLock::new(),
            sample: Mutex::default(),
            proven: AtomicBool::new(false),
            wanted: Arc::default(),
            other_issuer_seen: AtomicBool::new(false),
            running: OnceLock::new(),
        }
    }

    pub(super) fn start(self: &Arc<Self>, clock: &Clock, config: &ServiceConfig, changes: &Arc<AtomicU64>) {
        self.running.get_or_init(|| {
            let following = follow(Arc::downgrade(self), self.wanted.clone(), clock.clone());
            let task = tokio::spawn(following).abort_handle();
            Running { clock: clock.clone(), config: config.clone(), changes: changes.clone(), task }
        });
    }

    /// Returns the issuer, once its keys have verified a token that the upstream accepted.
    pub(super) fn proven(&self) -> Option<&Issuer> {
        self.issuer.get().filter(|_| self.proven.load(Ordering::Acquire))
    }

    /// Verifies a token as far as the keys can settle it. A token that they verify is good. A token that they
    /// refute or that has expired is not. The upstream verifies every other token: it may know other keys,
    /// issuers and algorithms.
    pub(super) fn verify(
        &self,
        token: &PodToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<Option<VerifiedToken>, TokenError> {
        let issuer = self.proven().filter(|issuer| issuer.url() == token.unverified_issuer());
        let Some(issuer) = issuer else { return Ok(None) };
        match issuer.verify_now(token, audience, now) {
            Ok(verified) => Ok(Some(verified)),
            Err(
                refuted @ (TokenError::SignatureInvalid
                | TokenError::AlgorithmNotOfKey { .. }
                | TokenError::Expired { .. }),
            ) => Err(refuted),
            Err(_) => Ok(None),
        }
    }

    /// Learns from a token that the upstream has accepted.
    pub(super) fn accepted(&self, token: &PodToken, audience: &str, now: SystemTime) {
        let claimed = token.unverified_issuer();
        let Some(issuer) = self.issuer.get().or_else(|| self.begin(claimed)) else { return };
        if issuer.url() != claimed {
            if !self.other_issuer_seen.swap(true, Ordering::Relaxed) {
                let learned = issuer.url();
                tracing::info!(issuer = claimed, learned, "upstream accepted a token of another issuer");
            }
        } else if let Err(TokenError::KeyUnknown { .. }) = self.try_on(issuer, token, audience, now) {
            self.wanted.notify_one();
        }
    }

    fn begin(&self, claimed: &str) -> Option<&Issuer> {
        let running = self.running.get()?;
        let Some(issuer) = (self.make)(claimed) else {
            tracing::debug!(issuer = claimed, "keys of this issuer cannot be learned");
            return None;
        };
        let issuer = self.issuer.get_or_init(|| issuer.learned());
        issuer.start(&running.clock, &running.config, &running.changes, false);
        self.wanted.notify_one();
        Some(issuer)
    }

    /// Tries the keys on an accepted token.
    fn try_on(
        &self,
        issuer: &Issuer,
        token: &PodToken,
        audience: &str,
        now: SystemTime,
    ) -> Result<(), TokenError> {
        let tried = issuer.verify_now(token, audience, now).map(drop);
        if self.proven.load(Ordering::Acquire) {
            return tried;
        }
        match &tried {
            Ok(()) => {
                self.proven.store(true, Ordering::Release);
                *lock(&self.sample) = None;
                tracing::info!(issuer = issuer.url(), "tokens of this issuer are verified here from now on");
            }
            Err(TokenError::KeysMissing | TokenError::KeyUnknown { .. }) => {
                *lock(&self.sample) = Some(token.clone());
            }
            Err(error) => {
                tracing::debug!(issuer = issuer.url(), %error, "keys do not verify a token that the upstream accepted");
            }
        }
        tried
    }
}

/// Fetches keys once there is an issuer, and keeps them fresh until the learner is dropped.
async fn follow(learner: Weak<Learner>, wanted: Arc<Notify>, clock: Clock) {
    loop {
        let Some(learner_now) = learner.upgrade() else { return };
        let Some(issuer) = learner_now.issuer.get() else {
            drop(learner_now);
            wanted.notified().await;
            continue;
        };
        let pause = issuer.fetch_if_due().await;
        let sample = lock(&learner_now.sample).take();
        if let Some(token) = sample {
            // Its failure says nothing new.
            let _ = learner_now.try_on(issuer, &token, POD_IDENTITY_AUDIENCE, clock.now().wall);
        }
        drop(learner_now);
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

impl fmt::Debug for Learner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Learner")
            .field("issuer", &self.issuer)
            .field("proven", &self.proven)
            .finish_non_exhaustive()
    }
}
