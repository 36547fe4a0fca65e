//! How a token is judged: by keys that were configured, by keys that were learned, or by EKS Auth's
//! acceptance.
//!
//! Configured keys decide alone. Learned ones only save calls: what they do not settle goes to EKS Auth, as
//! if there were none.

mod learner;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::token::{BearerToken, POD_IDENTITY_AUDIENCE, TokenError, claimed_identity};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::issuer_keys::{AcceptedIssuers, IssuerKeys};
use pod_identity_runtime::metrics::register_gauge;
use pod_identity_runtime::outbound::OutboundError;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;

use self::learner::Learner;
use crate::config::TokenKeys;
use crate::readiness::KEYS_CONDITION;

/// Whose a token is, and when it ends; `None` where only EKS Auth can say.
pub(crate) type Judgement = Option<(Arc<WorkloadIdentity>, SystemTime)>;

/// What judges tokens before any cache is read. A clone is the same judge.
#[derive(Debug, Clone)]
pub struct Judge(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: Keys,
    clock: Clock,
    /// The generation of the keys that the cache's tokens were judged with.
    judged_with: AtomicU64,
}

#[derive(Debug)]
enum Keys {
    Configured(AcceptedIssuers),
    Learned(Learner),
    None,
}

impl Judge {
    /// A judge with keys from there.
    ///
    /// # Errors
    /// Where a CA file cannot be read.
    pub fn new(keys: TokenKeys, clock: Clock) -> Result<Self, OutboundError> {
        let keys = match keys {
            TokenKeys::Configured(configs) => {
                let with_clock = |config| IssuerKeys::with_clock(config, clock.clone());
                let issuers = configs.into_iter().map(with_clock).collect::<Result<_, _>>()?;
                Keys::Configured(AcceptedIssuers::new(issuers))
            }
            TokenKeys::Learned(outbound) => Keys::Learned(Learner::new(outbound, clock.clone())?),
            TokenKeys::None => Keys::None,
        };
        Ok(Self(Arc::new(Inner { keys, clock, judged_with: AtomicU64::new(0) })))
    }

    /// Judges a token that the cache does not know.
    pub(crate) fn judge(&self, token: &BearerToken) -> Result<Judgement, TokenError> {
        let now = self.0.clock.now().wall;
        // What is no pod's token is no call's worth.
        let verified = match &self.0.keys {
            Keys::Configured(keys) => keys.verify_now(token, POD_IDENTITY_AUDIENCE, now).map(Some)?,
            Keys::Learned(learner) => learner.verify(token, &claimed_identity(token)?.0.issuer, now)?,
            Keys::None => claimed_identity(token).map(|_| None)?,
        };
        Ok(verified.map(|verified| (Arc::new(verified.identity), verified.expires_at)))
    }

    /// Whether a token that was refused so may be judged otherwise now: its key may be a new one.
    pub(crate) async fn judges_again(&self, token: &BearerToken, refusal: &TokenError) -> bool {
        match (&self.0.keys, refusal) {
            (Keys::Configured(keys), TokenError::KeyUnknown { .. } | TokenError::KeysMissing) => {
                keys.fetch_for_request(token).await;
                true
            }
            _ => false,
        }
    }

    /// Learns from a token that EKS Auth has accepted. From nobody else's acceptance: at STS any issuer is
    /// accepted that some account has made a provider of.
    pub(crate) fn accepted(&self, token: &BearerToken) {
        if let (Keys::Learned(learner), Ok((claimed, _))) = (&self.0.keys, claimed_identity(token)) {
            learner.accepted(token, &claimed.issuer, self.0.clock.now().wall);
        }
    }

    /// Whether the keys have changed since this was asked last: a token of a key that was withdrawn must
    /// not go on being known.
    pub(crate) fn keys_have_changed(&self) -> bool {
        let generation = match &self.0.keys {
            Keys::Configured(issuers) => issuers.generation(),
            Keys::Learned(learner) => learner.proven_keys().map_or(0, |keys| keys.generation()),
            Keys::None => return false,
        };
        let judged_with = &self.0.judged_with;
        judged_with.load(Ordering::Acquire) != generation
            && judged_with.swap(generation, Ordering::AcqRel) != generation
    }

    /// Whether tokens are verified with keys.
    fn has_keys(&self) -> bool {
        match &self.0.keys {
            Keys::Configured(issuers) => issuers.have_keys(),
            Keys::Learned(learner) => learner.proven_keys().is_some_and(|keys| keys.current().is_some()),
            Keys::None => false,
        }
    }

    /// Keeps the keys fresh until the shutdown.
    pub async fn follow(self, readiness: Readiness, mut shutdown: Shutdown) {
        let following = async {
            match &self.0.keys {
                Keys::Configured(issuers) => {
                    let mut following = JoinSet::new();
                    for keys in issuers.iter() {
                        let (keys, clock, readiness) =
                            (keys.clone(), self.0.clock.clone(), readiness.clone());
                        following.spawn(async move {
                            loop {
                                let pause = keys.refresh().await;
                                if keys.current().is_some() {
                                    readiness.met(KEYS_CONDITION);
                                }
                                clock.sleep(pause).await;
                            }
                        });
                    }
                    // None of them ends by itself: a panic is passed on.
                    match following.join_next().await {
                        Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                        None => std::future::pending().await,
                    }
                }
                Keys::Learned(learner) => learner.follow().await,
                Keys::None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.asked() => readiness.leaving("the agent is ending"),
            () = following => {}
        }
    }

    /// Registers `pod_identity_tokens_judged_by_keys`.
    pub fn register(&self, registry: &mut Registry) {
        let judge = self.clone();
        let help = "1 where tokens are verified with the issuer's keys, 0 where EKS Auth's acceptance counts";
        register_gauge(registry, "pod_identity_tokens_judged_by_keys", help, move || {
            Some(i64::from(judge.has_keys()))
        });
    }
}
