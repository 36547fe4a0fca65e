//! Between the pods and EKS Auth: one fetch for all who wait, and none for what is cached.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use pod_identity_core::cache::{CacheConfig, CredentialCache, Denied, Entry, Expires, Issued, Lead};
use pod_identity_core::credentials::SessionCredentials;
use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::source::CredentialSource;
use pod_identity_core::token::{BearerToken, POD_IDENTITY_AUDIENCE, TokenError, claimed_identity};
use pod_identity_runtime::clock;
use pod_identity_runtime::issuer_keys::IssuerKeys;
use pod_identity_runtime::shutdown::Shutdown;
use zeroize::Zeroizing;

use crate::exchange::{EksAuth, ExchangeError};
use crate::limit::{Budgets, Limits};

/// How long a request is held: what the SDKs wait, and a little less.
const HELD_FOR: Duration = Duration::from_millis(4500);
/// How often the cache is asked what is due.
const RENEWAL_TICK: Duration = Duration::from_secs(1);
/// How often what has ended is dropped.
const SWEEP_TICK: u32 = 60;

/// The answer to a pod, ready to be sent.
#[derive(Debug)]
pub struct Answer {
    json: Zeroizing<Vec<u8>>,
    expires_at: SystemTime,
}

impl Answer {
    fn new(credentials: &SessionCredentials) -> Result<Self, ExchangeError> {
        let json = credentials.to_container_json().map_err(|_| ExchangeError::Incomplete("expiration"))?;
        Ok(Self { json, expires_at: credentials.expires_at })
    }

    /// The JSON that SDKs read.
    pub fn json(&self) -> &[u8] {
        &self.json
    }
}

impl Expires for Answer {
    fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

type Identity = Arc<WorkloadIdentity>;
type Cache = CredentialCache<Identity, Answer, ExchangeError>;
type Fetched = Result<Arc<Entry<Answer>>, Arc<ExchangeError>>;

/// The cache, and what fills it.
#[derive(Debug)]
pub struct Broker {
    cache: Cache,
    eks_auth: EksAuth,
    keys: Option<Arc<IssuerKeys>>,
    /// The generation of the keys that the cache's tokens were verified with.
    verified_with: AtomicU64,
    limits: Limits,
}

impl Broker {
    /// A broker with an empty cache. With `keys` tokens are verified here; without them a token is good
    /// once EKS Auth has accepted it.
    pub fn new(
        config: CacheConfig,
        budgets: Budgets,
        eks_auth: EksAuth,
        keys: Option<Arc<IssuerKeys>>,
    ) -> Self {
        Self {
            cache: Cache::new(config),
            eks_auth,
            keys,
            verified_with: AtomicU64::new(0),
            limits: Limits::new(budgets),
        }
    }

    /// The credentials that a token of that peer leads to.
    ///
    /// # Errors
    /// [`ExchangeError`], shared by all who asked for the same.
    pub async fn credentials(self: &Arc<Self>, token: &BearerToken, peer: IpAddr) -> Fetched {
        match tokio::time::timeout(HELD_FOR, self.held(token, peer)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(Arc::new(ExchangeError::Unavailable(format!(
                "no answer yet after {} s; the call goes on",
                HELD_FOR.as_secs_f32()
            )))),
        }
    }

    async fn held(self: &Arc<Self>, token: &BearerToken, peer: IpAddr) -> Fetched {
        self.forget_tokens_of_old_keys();
        let mut denied = self.get(token, peer).await;
        // A key that is not known may be a new one.
        if let (Err(Denied::Token(TokenError::KeyUnknown { .. } | TokenError::KeysMissing)), Some(keys)) =
            (&denied, &self.keys)
        {
            let _ = keys.fetch_if_due().await; // a failure has been logged
            denied = self.get(token, peer).await;
        }
        denied.map_err(|denied| match denied {
            Denied::Token(error) => Arc::new(ExchangeError::Token(error)),
            Denied::Upstream(error) => error,
            Denied::GivenUp => Arc::new(ExchangeError::Unavailable("the call was given up".to_owned())),
        })
    }

    async fn get(
        self: &Arc<Self>,
        token: &BearerToken,
        peer: IpAddr,
    ) -> Result<Arc<Entry<Answer>>, Denied<ExchangeError, TokenError>> {
        self.cache.get(token, clock::both, || self.verify(token), |lead| self.lead(lead, peer)).await
    }

    /// A token of a key that was withdrawn must not go on being known.
    fn forget_tokens_of_old_keys(&self) {
        let Some(keys) = &self.keys else { return };
        let generation = keys.generation();
        if self.verified_with.load(Ordering::Acquire) != generation
            && self.verified_with.swap(generation, Ordering::AcqRel) != generation
        {
            self.cache.forget_tokens();
        }
    }

    fn verify(&self, token: &BearerToken) -> Result<Option<(Identity, SystemTime)>, TokenError> {
        let Some(keys) = &self.keys else {
            claimed_identity(token)?; // what is no pod's token is no call's worth
            return Ok(None);
        };
        let verified = keys.verify_now(token, POD_IDENTITY_AUDIENCE, clock::now())?;
        Ok(Some((Arc::new(verified.identity), verified.expires_at)))
    }

    /// Fetches in a task of its own: whoever hangs up cancels nothing.
    fn lead(self: &Arc<Self>, lead: Lead<Identity, Answer, ExchangeError>, peer: IpAddr) {
        let Some(place) = self.limits.place(peer, lead.identity().is_some()) else {
            return lead.complete(clock::both(), Err(ExchangeError::Crowded));
        };
        let broker = self.clone();
        tokio::spawn(async move {
            let call = place.call().await;
            let answer = broker.fetch(lead.token()).await;
            call.end(answer.as_ref().err());
            lead.complete(clock::both(), answer);
        });
    }

    async fn fetch(&self, token: &BearerToken) -> Result<Issued<Identity, Answer>, ExchangeError> {
        let issued = self.eks_auth.exchange(token).await?;
        // EKS Auth has accepted this very token: now its claims are to be believed.
        let (identity, token_expires_at) = claimed_identity(token)?;
        tracing::debug!(
            namespace = %issued.namespace,
            service_account = %issued.service_account,
            pod = %identity.pod.name,
            access_key_id = issued.credentials.access_key_id,
            "credentials fetched"
        );
        Ok(Issued {
            identity: Arc::new(identity),
            token_expires_at,
            value: Answer::new(&issued.credentials)?,
        })
    }

    /// Renews what is due, and drops what has ended, until the shutdown.
    pub async fn renew(self: Arc<Self>, mut shutdown: Shutdown) {
        for tick in 1_u32.. {
            tokio::select! {
                () = shutdown.asked() => return,
                () = tokio::time::sleep(RENEWAL_TICK) => {}
            }
            for due in self.cache.due(clock::both()) {
                let broker = self.clone();
                tokio::spawn(async move {
                    let _call = broker.limits.renewal().await;
                    let answer = broker.fetch(due.lead.token()).await;
                    if let Err(error) = &answer {
                        tracing::warn!(pod = %due.identity.pod.name, %error, "credentials were not renewed");
                    }
                    due.lead.complete(clock::both(), answer);
                });
            }
            if tick % SWEEP_TICK == 0 {
                self.cache.sweep(clock::both());
                self.limits.sweep();
            }
        }
    }
}
