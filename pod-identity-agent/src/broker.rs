//! Between the pods and EKS Auth: one fetch for all who wait, and none for what is cached.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pod_identity_core::cache::{CacheConfig, CredentialCache, Denied, Entry, Expires, Issued, Lead};
use pod_identity_core::credentials::SessionCredentials;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::limit::Budgets;
use pod_identity_core::source::{CredentialSource, SubjectCredentials};
use pod_identity_core::token::{BearerToken, TokenDigest, TokenError, claimed_identity};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;
use zeroize::Zeroizing;

use crate::exchange::{EksAuth, ExchangeError};
use crate::judge::Judge;
use crate::readiness;
pub use crate::upstream::LocalAddresses;
use crate::upstream::Upstream;

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
pub struct Broker<S = EksAuth> {
    cache: Cache,
    source: S,
    judge: Judge,
    upstream: Upstream,
    readiness: Readiness,
    clock: Clock,
}

impl<S: CredentialSource<Error = ExchangeError> + 'static> Broker<S> {
    /// A broker with an empty cache, which asks that source. What comes from `local` is one peer.
    pub fn new(
        config: CacheConfig,
        budgets: Budgets,
        local: LocalAddresses,
        source: S,
        judge: Judge,
        readiness: Readiness,
        clock: Clock,
    ) -> Self {
        let (cache, upstream) = (Cache::new(config), Upstream::new(budgets, local, clock.clone()));
        Self { cache, source, judge, upstream, readiness, clock }
    }

    /// Registers the metrics of calls to EKS Auth and of renewals.
    pub fn register(&self, registry: &mut Registry) {
        self.upstream.register(registry);
    }

    /// The credentials that this leads to, if it is a token that is known and they are there.
    pub fn cached(&self, token: &str) -> Option<Arc<Entry<Answer>>> {
        self.forget_tokens_of_old_keys();
        self.cache.hit(&TokenDigest::of_text(token.as_bytes()), self.clock.now())
    }

    /// The credentials that a token of that peer leads to.
    ///
    /// # Errors
    /// [`ExchangeError`], shared by all who asked for the same.
    pub async fn credentials(self: &Arc<Self>, token: &BearerToken, peer: IpAddr) -> Fetched {
        let held = tokio::time::timeout(HELD_FOR, self.held(token, peer)).await;
        held.unwrap_or_else(|_| Err(Arc::new(self.not_yet())))
    }

    /// Why a request is held no longer.
    fn not_yet(&self) -> ExchangeError {
        match self.upstream.pause() {
            Some(retry_after) => ExchangeError::Throttled { retry_after },
            None => ExchangeError::Unavailable(format!(
                "no answer yet after {} s; the call goes on",
                HELD_FOR.as_secs_f32()
            )),
        }
    }

    async fn held(self: &Arc<Self>, token: &BearerToken, peer: IpAddr) -> Fetched {
        self.forget_tokens_of_old_keys();
        let mut denied = self.get(token, peer).await;
        if let Err(Denied::Token(refusal)) = &denied
            && self.judge.judges_again(token, refusal).await
        {
            denied = self.get(token, peer).await;
        }
        denied.map_err(|denied| match denied {
            Denied::Token(error) => Arc::new(ExchangeError::Token(error)),
            Denied::Upstream(error) => error,
            Denied::GivenUp => Arc::new(ExchangeError::Unavailable("the call was given up".to_owned())),
        })
    }

    /// A token of a key that was withdrawn must not go on being known.
    fn forget_tokens_of_old_keys(&self) {
        if self.judge.keys_have_changed() {
            self.cache.forget_tokens();
        }
    }

    async fn get(
        self: &Arc<Self>,
        token: &BearerToken,
        peer: IpAddr,
    ) -> Result<Arc<Entry<Answer>>, Denied<ExchangeError, TokenError>> {
        let judge = || self.judge.judge(token);
        self.cache.get(token, || self.clock.now(), judge, |lead| self.lead(lead, peer)).await
    }

    /// Fetches in a task of its own: whoever hangs up cancels nothing.
    fn lead(self: &Arc<Self>, lead: Lead<Identity, Answer, ExchangeError>, peer: IpAddr) {
        let place = match self.upstream.place(peer, lead.identity().is_some()) {
            Ok(place) => place,
            Err(error) => return drop(lead.complete(self.clock.now(), Err(error))),
        };
        let broker = self.clone();
        tokio::spawn(async move {
            let issued = broker.upstream.demand(place, || broker.exchange(lead.token())).await;
            let answer = issued.and_then(|issued| broker.take_in(lead.token(), &issued));
            let answer = judged_before(&lead, answer);
            lead.complete(broker.clock.now(), answer);
        });
    }

    /// What was issued for a token, as the cache keeps it.
    fn take_in(
        &self,
        token: &BearerToken,
        issued: &SubjectCredentials,
    ) -> Result<Issued<Identity, Answer>, ExchangeError> {
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

    /// Asks EKS Auth once, and learns from its answer.
    async fn exchange(&self, token: &BearerToken) -> Result<SubjectCredentials, ExchangeError> {
        let answer = self.source.exchange(token).await;
        readiness::heed(&self.readiness, answer.as_ref().err());
        if answer.is_ok() {
            self.judge.accepted(token);
        }
        answer
    }

    /// Renews what is due, and drops what has ended, until the shutdown.
    pub async fn renew(self: Arc<Self>, mut shutdown: Shutdown) {
        for tick in 1_u32.. {
            tokio::select! {
                () = shutdown.asked() => return,
                () = self.clock.sleep(RENEWAL_TICK) => {}
            }
            self.renew_what_is_due();
            if tick % SWEEP_TICK == 0 {
                self.cache.sweep(self.clock.now());
                self.upstream.sweep();
            }
        }
    }

    /// Begins as many renewals as there is room for; what is left is due again in a second.
    fn renew_what_is_due(self: &Arc<Self>) {
        let due = self.cache.due(self.clock.now());
        // Of what is due now: a session that was short once must not set the pace of the others for good.
        let Some(life) = due.iter().map(|due| due.lifetime).min() else { return };
        for due in due {
            let Some(renewal) = self.upstream.renewal(self.cache.len(), life) else { return };
            // Its key may have been withdrawn since it was judged: then EKS Auth does not see it again.
            if let Err(refuted) = self.judge.judge(due.lead.token()) {
                due.lead.complete(self.clock.now(), Err(ExchangeError::Token(refuted)));
                continue;
            }
            let broker = self.clone();
            tokio::spawn(async move {
                let issued = broker.upstream.renew(renewal, broker.exchange(due.lead.token())).await;
                let answer = issued.and_then(|issued| broker.take_in(due.lead.token(), &issued));
                let answer = judged_before(&due.lead, answer);
                if let Some(error) = due.lead.complete(broker.clock.now(), answer) {
                    tracing::warn!(pod = %due.identity.pod.name, %error, "renewal failed");
                }
            });
        }
    }
}

/// The key of a token that was judged good before may be too new for EKS Auth.
fn judged_before<T>(
    lead: &Lead<Identity, Answer, ExchangeError>,
    answer: Result<T, ExchangeError>,
) -> Result<T, ExchangeError> {
    answer.map_err(|error| match error {
        ExchangeError::Refused { code: ErrorCode::TokenKeyUnknown, message, .. }
            if lead.identity().is_some() =>
        {
            ExchangeError::KeyNotThereYet { message }
        }
        error => error,
    })
}
