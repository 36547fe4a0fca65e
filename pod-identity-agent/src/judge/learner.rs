//! Keys that nobody configured: those of the issuer whose token EKS Auth accepted first.
//!
//! What EKS Auth has accepted for this cluster is the cluster's, its issuer too. So the issuer's public
//! keys are fetched, and once they verify a token that EKS Auth has accepted, tokens of that issuer are
//! verified here. Then a token that kubelet has replaced needs no call, and an outage of EKS Auth harms
//! nobody whose credentials are valid.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use pod_identity_core::token::{BearerToken, POD_IDENTITY_AUDIENCE, TokenError, VerifiedToken};
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::issuer_keys::IssuerKeys;
use pod_identity_runtime::outbound::{Outbound, OutboundError};
use tokio::sync::Notify;

/// What has been learned so far.
#[derive(Debug)]
pub(super) struct Learner {
    outbound: Outbound,
    clock: Clock,
    /// One issuer, as a cluster has. A second one, while a cluster changes its issuer, and one that is no
    /// https URL, stay with EKS Auth.
    issuer: OnceLock<Arc<IssuerKeys>>,
    /// A token of it that EKS Auth has accepted, for the keys to be tried on.
    witness: Mutex<Option<BearerToken>>,
    /// Whether the keys have verified an accepted token.
    proven: AtomicBool,
    /// There is something to fetch: an issuer, or an accepted token of a key that is not known.
    wanted: Notify,
    other_issuer_seen: AtomicBool,
}

impl Learner {
    pub(super) fn new(outbound: Outbound, clock: Clock) -> Result<Self, OutboundError> {
        outbound.getter()?; // what is wrong with the CA file is said at the start
        Ok(Self {
            outbound,
            clock,
            issuer: OnceLock::new(),
            witness: Mutex::default(),
            proven: AtomicBool::new(false),
            wanted: Notify::new(),
            other_issuer_seen: AtomicBool::new(false),
        })
    }

    /// The keys, once they have verified a token that EKS Auth accepted.
    pub(super) fn proven_keys(&self) -> Option<&Arc<IssuerKeys>> {
        self.issuer.get().filter(|_| self.proven.load(Ordering::Acquire))
    }

    /// Verifies a token as far as the keys can settle it: one that they verify is good, one that they
    /// refute or that has expired is not, and everything else is EKS Auth's to judge. It may know keys,
    /// issuers and algorithms that are not known here.
    pub(super) fn verify(
        &self,
        token: &BearerToken,
        issuer: &str,
        now: SystemTime,
    ) -> Result<Option<VerifiedToken>, TokenError> {
        let Some(keys) = self.proven_keys().filter(|keys| keys.issuer() == issuer) else { return Ok(None) };
        match keys.verify_now(token, POD_IDENTITY_AUDIENCE, now) {
            Ok(verified) => Ok(Some(verified)),
            Err(
                refuted @ (TokenError::SignatureInvalid
                | TokenError::AlgorithmNotOfKey { .. }
                | TokenError::Expired { .. }),
            ) => Err(refuted),
            Err(_) => Ok(None),
        }
    }

    /// Takes note of a token of that issuer that EKS Auth has accepted.
    pub(super) fn accepted(&self, token: &BearerToken, issuer: &str, now: SystemTime) {
        let Some(keys) = self.issuer.get().or_else(|| self.begin(issuer)) else { return };
        if keys.issuer() != issuer {
            if !self.other_issuer_seen.swap(true, Ordering::Relaxed) {
                let learned = keys.issuer();
                tracing::info!(issuer, learned, "tokens of another issuer are judged by EKS Auth");
            }
        } else if let Err(TokenError::KeyUnknown { .. }) = self.try_on(keys, token, now) {
            self.wanted.notify_one();
        }
    }

    /// Begins to learn, where the issuer can be asked over https.
    fn begin(&self, issuer: &str) -> Option<&Arc<IssuerKeys>> {
        match IssuerKeys::learned(issuer.to_owned(), self.outbound.clone(), self.clock.clone()) {
            Ok(keys) => {
                let keys = self.issuer.get_or_init(|| keys);
                self.wanted.notify_one();
                Some(keys)
            }
            Err(error) => {
                tracing::debug!(issuer, %error, "no keys can be learned of this issuer");
                None
            }
        }
    }

    /// Tries the keys on an accepted token.
    fn try_on(&self, keys: &IssuerKeys, token: &BearerToken, now: SystemTime) -> Result<(), TokenError> {
        let tried = keys.verify_now(token, POD_IDENTITY_AUDIENCE, now).map(drop);
        if self.proven.load(Ordering::Acquire) {
            return tried;
        }
        match &tried {
            Ok(()) => {
                self.proven.store(true, Ordering::Release);
                *self.witness() = None;
                tracing::info!(issuer = keys.issuer(), "tokens of this issuer are verified here from now on");
            }
            Err(TokenError::KeysMissing | TokenError::KeyUnknown { .. }) => {
                *self.witness() = Some(token.clone());
            }
            Err(error) => {
                tracing::debug!(issuer = keys.issuer(), %error, "EKS Auth accepts what its keys do not verify");
            }
        }
        tried
    }

    fn witness(&self) -> std::sync::MutexGuard<'_, Option<BearerToken>> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches keys once there is an issuer, and keeps them fresh.
    pub(super) async fn follow(&self) {
        loop {
            let Some(keys) = self.issuer.get() else {
                self.wanted.notified().await;
                continue;
            };
            let pause = keys.refresh().await;
            let witness = self.witness().take();
            if let Some(token) = witness {
                // Its failure says nothing new.
                let _ = self.try_on(keys, &token, self.clock.now().wall);
            }
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }
}
