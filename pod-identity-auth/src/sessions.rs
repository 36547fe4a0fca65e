//! The sessions of pods: asked of STS once for all who want the same, kept while they may be given out.
//!
//! Nobody comes here who has not been judged: the caller is authenticated, the token verified with the
//! keys of this moment, and the association looked up in the snapshot of this moment. So a withdrawn key
//! or a removed association takes effect at the next request, and nothing here has to be told of it.

mod metrics;
mod size;

use std::sync::Arc;
use std::time::Duration;

use pod_identity_core::association::{Association, AssociationTable};
use pod_identity_core::cache::{
    Denied, Expires, Origin, Served, Serving, SessionCache, SessionCacheConfig, SlotLead, UnusableAnswer,
};
use pod_identity_core::cluster::Cluster;
use pod_identity_core::error::ErrorCode;
use pod_identity_core::identity::WorkloadIdentity;
use pod_identity_core::now::Expiry;
use pod_identity_core::session::{SessionName, SessionPlan};
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock;
use pod_identity_runtime::shutdown::Shutdown;
use prometheus_client::registry::Registry;

use self::metrics::SessionMetrics;
pub(crate) use self::size::warn_of_large_sessions;
use crate::config::SessionNaming;
use crate::store::Store;
use crate::sts::{RoleSessionCredentials, Sts, StsError};

/// The readiness condition that our own role session lets us set session tags.
const CALLER_TAGS_CONDITION: &str = "caller_session";

/// How often what has ended, or lost its association, is dropped.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// How long a pod that could have a stale session waits for a newer one. An STS that answers does so in
/// a fraction of it; boto3 gives up after 2 s (botocore, `utils.py`, `ContainerMetadataFetcher`), the agent
/// after 4.5, and a call to an STS that hangs ends after 9.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How many sessions are kept, and which of them are given out again.
///
/// 20,000 sessions of about 3 KiB are 60 MB.
///
/// Fresh is the first fifth of a life. An agent asks again at 45 to 55 % of what was left when it got the
/// session; it must get a newer one then, so fresh has to end before 45 %. It also must have enough left:
/// what comes fresh of an hour has 48 min, is renewed by the agent when 21 to 26 are left, and so a pod
/// has more than the 15 min below which botocore fetches again (Java's below an hour: always). A fifth
/// keeps that for every life of 45 min or more.
///
/// Stale sessions are served until a minute before their end: an agent stops at 15 s, and a request to
/// AWS wants the rest.
pub const DEFAULT_CACHE: SessionCacheConfig = SessionCacheConfig {
    capacity: 20_000,
    serving: Serving { margin: Duration::from_secs(60), fresh_percent: 20 },
};

/// Everything that a session is made of. A changed association is another key, so that it is never
/// answered with what was issued before; no counter has to be raised for that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The pod: no two share a session, their tags differ.
    pub identity: WorkloadIdentity,
    /// The cluster, with what its tags and external ids are made of.
    pub cluster: Arc<Cluster>,
    /// The association, all of it.
    pub association: Arc<Association>,
}

/// A session that a pod gets.
#[derive(Debug, Clone)]
pub struct Given {
    /// The session.
    pub session: Arc<RoleSessionCredentials>,
    /// Where it comes from.
    pub origin: Origin,
}

type Cache = SessionCache<Arc<SessionKey>, Arc<RoleSessionCredentials>, StsError>;
type Lead = SlotLead<Arc<RoleSessionCredentials>, StsError>;

/// STS, and the sessions that it gave.
#[derive(Debug)]
pub struct Sessions {
    sts: Arc<Sts>,
    naming: SessionNaming,
    readiness: Readiness,
    /// `None`: every request is a call.
    cache: Option<Arc<Cache>>,
    metrics: SessionMetrics,
}

impl Sessions {
    /// No sessions yet; with a capacity of 0 there never are any.
    pub fn new(
        sts: Arc<Sts>,
        naming: SessionNaming,
        config: SessionCacheConfig,
        readiness: Readiness,
        registry: &mut Registry,
    ) -> Arc<Self> {
        let cache = (config.capacity > 0).then(|| Arc::new(Cache::new(config)));
        let metrics = SessionMetrics::register(registry, cache.clone());
        Arc::new(Self { sts, naming, readiness, cache, metrics })
    }

    /// A session for that pod. Whoever asks for the same meanwhile shares the call.
    ///
    /// # Errors
    /// [`StsError`], shared by all who waited.
    pub async fn get(self: &Arc<Self>, key: SessionKey) -> Result<Given, Arc<StsError>> {
        let key = Arc::new(key);
        let given = match &self.cache {
            Some(cache) => self.shared(cache, &key).await?,
            None => Given { session: self.assume(&key).await.map_err(Arc::new)?, origin: Origin::Fetched },
        };
        if given.origin == Origin::Stale {
            tracing::warn!(
                association = %key.association.id,
                pod = %key.identity.pod.name,
                "STS cannot be asked, or takes too long: the pod gets the session that it was given before"
            );
        }
        self.metrics.count(given.origin);
        Ok(given)
    }

    async fn shared(self: &Arc<Self>, cache: &Cache, key: &Arc<SessionKey>) -> Result<Given, Arc<StsError>> {
        let getting = cache.get(key, clock::both, |lead| self.fetch(key.clone(), lead));
        let mut getting = std::pin::pin!(getting);
        let _waiting = self.metrics.waiting();
        let served = match tokio::time::timeout(PATIENCE, &mut getting).await {
            Ok(served) => served,
            // The call goes on, for whoever comes next. What is there is read now and not before: if STS has
            // refused the session meanwhile there is none, and the refusal is the answer.
            Err(_) => match cache.read(key, clock::both()) {
                Some(entry) => Ok(Served { entry, origin: Origin::Stale }),
                None => getting.await,
            },
        };
        match served {
            Ok(Served { entry, origin }) => Ok(Given { session: entry.value().clone(), origin }),
            Err(Denied::Upstream(error)) => Err(error),
            Err(Denied::GivenUp) => Err(Arc::new(StsError::Unavailable {
                role: key.association.role.clone(),
                reason: "the call was given up".to_owned(),
                retry_after: None,
            })),
        }
    }

    /// Asks STS in a task of its own: whoever hangs up cancels nothing.
    fn fetch(self: &Arc<Self>, key: Arc<SessionKey>, lead: Lead) {
        let sessions = self.clone();
        tokio::spawn(async move {
            let answer = sessions.assume(&key).await;
            lead.complete(clock::both(), answer);
        });
    }

    async fn assume(&self, key: &SessionKey) -> Result<Arc<RoleSessionCredentials>, StsError> {
        let unique = match self.naming {
            SessionNaming::Random => uuid::Uuid::new_v4().to_string(),
            SessionNaming::Stable => key.identity.pod.uid.to_string(),
        };
        let name = SessionName::for_pod(&key.cluster.name, &key.identity.pod, &unique);
        let plan = SessionPlan::new(&key.cluster, &key.association, &key.identity, name);
        let answer = self.sts.assume(&plan).await;
        self.judge_own_session(!plan.role.tags.is_empty(), &answer);
        let (expires_at, now) = (answer.as_ref().map(Expires::expires_at), clock::both());
        match expires_at {
            Ok(expires_at) if Expiry::at(expires_at, now).is_over(now, Duration::ZERO) => {
                let role = key.association.role.clone();
                let reason = UnusableAnswer::Expired { expires_at, now: now.wall };
                Err(StsError::Unusable { role, reason })
            }
            _ => answer.map(Arc::new),
        }
    }

    /// Updates the condition `caller_session`: with transitive tags on the service's own session, STS issues no
    /// session with tags.
    fn judge_own_session(&self, tagged: bool, answer: &Result<RoleSessionCredentials, StsError>) {
        match answer {
            Err(error) if error.code() == ErrorCode::CallerSessionHasTags => {
                self.readiness.unmet(CALLER_TAGS_CONDITION, ErrorCode::CallerSessionHasTags.cause());
            }
            Ok(_) if tagged => self.readiness.met(CALLER_TAGS_CONDITION),
            _ => {}
        }
    }

    /// Drops the sessions whose association is not in this table any more, or another one: nobody can
    /// ask for them, and their secrets need not linger.
    pub fn keep_those_of(&self, table: &AssociationTable) {
        let Some(cache) = &self.cache else { return };
        cache.retain(|key| {
            let identity = &key.identity;
            let found = table.lookup(&key.cluster.name, &identity.namespace, &identity.service_account);
            found.is_ok_and(|(cluster, association)| {
                *cluster == key.cluster && *association == key.association
            })
        });
    }

    /// Drops what has ended, and what a request with an old snapshot brought back after a reload, until
    /// the shutdown.
    pub async fn sweep(self: Arc<Self>, store: Arc<Store>, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.asked() => return,
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            }
            let (sessions, store) = (self.clone(), store.clone());
            let swept = tokio::task::spawn_blocking(move || {
                if let Some(cache) = &sessions.cache {
                    cache.sweep(clock::both());
                }
                sessions.keep_those_of(&store.snapshot().associations);
            });
            if let Err(error) = swept.await {
                tracing::error!(%error, "ended sessions were not dropped");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use pod_identity_core::arn::RoleArn;
    use pod_identity_core::cache::SlotBegin;
    use pod_identity_core::now::Now;

    use super::*;

    struct Until(SystemTime);

    impl Expires for Until {
        fn expires_at(&self) -> SystemTime {
            self.0
        }
    }

    fn at(seconds: f64) -> Now {
        let since = Duration::from_secs_f64(seconds);
        Now { wall: SystemTime::UNIX_EPOCH + since, monotonic: since }
    }

    #[test]
    fn an_agent_that_renews_gets_something_newer_and_its_pod_has_a_quarter_of_an_hour_left() {
        for life in [900.0, 2700.0, 3600.0, 43_200.0] {
            for percent in 0..=20_u8 {
                let cache: SessionCache<u8, Until, StsError> = SessionCache::new(DEFAULT_CACHE);
                let SlotBegin::Lead(lead, _) = cache.begin(&1, at(0.0)) else { panic!() };
                lead.complete(at(0.0), Ok(Until(at(life).wall)));
                let got = life * f64::from(percent) / 100.0;
                assert!(matches!(cache.begin(&1, at(got)), SlotBegin::Hit(_)), "{life} s at {percent} %");
                // An agent renews at 45 to 55 % of what was left when it got the session.
                let (first, last) = (got + 0.45 * (life - got), got + 0.55 * (life - got));
                assert!(matches!(cache.begin(&1, at(first)), SlotBegin::Lead(..)), "{life} s at {percent} %");
                assert!(life < 2700.0 || life - last >= 900.0, "{life} s at {percent} %");
            }
        }
    }

    #[test]
    fn what_sts_says_of_the_session_is_an_answer_and_all_else_is_not() {
        use pod_identity_core::cache::{Effect, Refusal};
        let role: RoleArn = "arn:aws:iam::111122223333:role/cart".parse().unwrap();
        let refused = |code| StsError::Refused {
            role: role.clone(),
            code,
            sts_code: "".into(),
            message: "".into(),
            retry_after: None,
        };
        for code in [ErrorCode::RoleTrustRefused, ErrorCode::SessionRefused] {
            assert_eq!(refused(code).effect(), Effect::RefusesIdentity, "{code}");
        }
        for code in [ErrorCode::Throttled, ErrorCode::OwnCredentials, ErrorCode::CallerSessionHasTags] {
            assert_eq!(refused(code).effect(), Effect::CannotAsk, "{code}");
        }
        let away = StsError::Unavailable { role, reason: String::new(), retry_after: None };
        assert_eq!(away.effect(), Effect::CannotAsk);
        assert_eq!(StsError::Incomplete("Credentials").effect(), Effect::CannotAsk);
    }
}
