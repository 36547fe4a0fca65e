//! Between the pods and EKS Auth: one fetch for all who wait, and none for what is cached.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pod_identity_core::cache::{
    Begin, CacheConfig, CredentialCache, Entry, Expires, Issued, Lead, Waited, Waiter,
};
use pod_identity_core::credentials::SessionCredentials;
use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::source::CredentialSource;
use pod_identity_core::token::{BearerToken, POD_IDENTITY_AUDIENCE, TokenError, claimed_identity};
use pod_identity_runtime::clock;
use pod_identity_runtime::issuer_keys::IssuerKeys;
use pod_identity_runtime::shutdown::Shutdown;
use zeroize::Zeroizing;

use crate::exchange::{EksAuth, ExchangeError};
use crate::limit::Limits;

/// How long a request is held: what the SDKs wait, and a little less.
const HELD_FOR: Duration = Duration::from_millis(4500);
/// How often a request begins again, after its leader was dropped or failed by its own token.
const ATTEMPTS: usize = 3;
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
    limits: Limits,
}

impl Broker {
    /// A broker with an empty cache. With `keys` tokens are verified here; without them a token is good
    /// once EKS Auth has accepted it.
    pub fn new(config: CacheConfig, eks_auth: EksAuth, keys: Option<Arc<IssuerKeys>>) -> Self {
        Self { cache: Cache::new(config), eks_auth, keys, limits: Limits::default() }
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
        for _ in 0..ATTEMPTS {
            let waiter = match self.begin(token).await? {
                Begin::Hit(entry) => return Ok(entry),
                Begin::Refused(error) => return Err(error),
                Begin::Wait(waiter) => waiter,
                Begin::Lead(lead, waiter) => self.lead(lead, waiter, peer)?,
            };
            match waiter.wait().await {
                Waited::Value(entry) => return Ok(entry),
                Waited::Refused(error) => return Err(error),
                Waited::Again => {}
            }
        }
        Err(Arc::new(ExchangeError::Unavailable("the call was given up".to_owned())))
    }

    async fn begin(
        &self,
        token: &BearerToken,
    ) -> Result<Begin<Identity, Answer, ExchangeError>, ExchangeError> {
        let mut fetched = false;
        loop {
            match self.cache.begin(token, clock::both(), || self.verify(token)) {
                // A key that is not known may be a new one.
                Err(TokenError::KeyUnknown { .. }) if !fetched => {
                    fetched = true;
                    if let Some(keys) = &self.keys {
                        let _ = keys.fetch_if_due().await; // it has been logged
                    }
                }
                begun => return Ok(begun?),
            }
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
    fn lead(
        self: &Arc<Self>,
        lead: Lead<Identity, Answer, ExchangeError>,
        waiter: Waiter<Answer, ExchangeError>,
        peer: IpAddr,
    ) -> Result<Waiter<Answer, ExchangeError>, ExchangeError> {
        let place = self.limits.place(peer, lead.identity().is_some()).ok_or(ExchangeError::Crowded)?;
        let broker = self.clone();
        tokio::spawn(async move {
            let call = place.call().await;
            let answer = broker.fetch(lead.token()).await;
            call.end(answer.as_ref().err());
            lead.complete(clock::both(), answer);
        });
        Ok(waiter)
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

    /// How many identities are cached.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }
}
