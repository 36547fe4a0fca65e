//! The auth service's part: sessions under the keys that it keeps them under.

use std::sync::Arc;
use std::time::Duration;

use benches::identities::{identity, now};
use pod_identity_auth::sessions::{DEFAULT_CACHE, SessionKey};
use pod_identity_auth::sts::{RoleSessionCredentials, StsError};
use pod_identity_core::association::Association;
use pod_identity_core::cache::{SessionCache, SessionCacheConfig, SlotBegin};
use pod_identity_core::cluster::Cluster;
use pod_identity_core::credentials::SessionCredentials;

use super::{FEW, MANY, ROUNDS, each_has, later, resident};
use crate::Outcome;
use crate::measure::{Pairs, cpu_of, each, nanoseconds};

const LIFETIME: Duration = Duration::from_secs(3600);
/// The length of an AWS session token, about.
const SESSION_TOKEN_LENGTH: usize = 1000;

type Cache = SessionCache<Arc<SessionKey>, Arc<RoleSessionCredentials>, StsError>;
type Error = Box<dyn std::error::Error>;

pub(super) fn run() -> Outcome {
    let (many, few) = (Kept::new(MANY)?, Kept::new(FEW)?);
    let before = resident()?;
    many.fill()?;
    let filled = resident()?;
    few.fill()?;

    let mut turns = (0..MANY / FEW).cycle();
    let turn_of_many = || many.ask(turns.next().unwrap_or_default() * FEW);
    let pairs = Pairs::in_turn(ROUNDS, turn_of_many, || few.ask(0))?;
    pairs.print("a request for a session that is kept", "among 100,000", "among 2,000", "µs");

    let sweep = nanoseconds(1, |_| many.cache.sweep(now()));
    println!("  a sweep of 100,000: {:.2} ms", sweep / 1e6);
    println!(
        "  memory of a session: {} bytes, its association, which the table has too, left out; in it: the session \
         token {SESSION_TOKEN_LENGTH}",
        each_has(filled.saturating_sub(before)),
    );
    many.cache.sweep(later(LIFETIME));
    if !many.cache.is_empty() {
        return Err("a sweep after the end left something".into());
    }
    Ok(())
}

/// A cache, and the associations of those that it has sessions for: each account has its own.
struct Kept {
    cache: Cache,
    cluster: Arc<Cluster>,
    associations: Vec<Arc<Association>>,
}

impl Kept {
    fn new(count: u32) -> Result<Self, Error> {
        let config = SessionCacheConfig { capacity: MANY as usize, ..DEFAULT_CACHE };
        let association = |number| -> Result<_, Error> {
            let identity = identity(number)?;
            let (namespace, account) = (identity.namespace.clone(), identity.service_account.clone());
            let role = format!("arn:aws:iam::111122223333:role/{account}").parse()?;
            Ok(Arc::new(Association::new(format!("a-{number}").parse()?, namespace, account, role)))
        };
        Ok(Self {
            cache: Cache::new(config),
            cluster: Arc::new(Cluster::new("bench".parse()?).in_region("eu-west-1", "111122223333".parse()?)),
            associations: (0..count).map(association).collect::<Result<_, _>>()?,
        })
    }

    /// What a request of that number's pod asks for: a key of its own each time, as in the service.
    fn key(&self, number: u32) -> Result<Arc<SessionKey>, Error> {
        Ok(Arc::new(SessionKey {
            identity: Arc::unwrap_or_clone(identity(number)?),
            cluster: self.cluster.clone(),
            association: self.associations[number as usize].clone(),
        }))
    }

    /// Fetches all sessions.
    fn fill(&self) -> Outcome {
        let count = u32::try_from(self.associations.len())?;
        let (filled, took) = cpu_of(|| (0..count).try_for_each(|number| self.fetch(number)));
        filled?;
        println!("  first requests of {count}: {:.3} µs each", each(took, count) / 1e3);
        Ok(())
    }

    fn fetch(&self, number: u32) -> Outcome {
        let SlotBegin::Lead(lead, _) = self.cache.begin(&self.key(number)?, now()) else {
            return Err("there was a session".into());
        };
        lead.complete(now(), Ok(Arc::new(session()?)));
        Ok(())
    }

    /// Requests for some sessions, from one on: microseconds of each look-up, its key made before.
    fn ask(&self, from: u32) -> Result<f64, Error> {
        let keys = (from..from + FEW).map(|number| self.key(number)).collect::<Result<Vec<_>, _>>()?;
        let (all_hit, took) =
            cpu_of(|| keys.iter().all(|key| matches!(self.cache.begin(key, now()), SlotBegin::Hit(_))));
        if !all_hit {
            return Err("a session that is kept was not found".into());
        }
        Ok(each(took, FEW) / 1e3)
    }
}

/// What STS gives.
fn session() -> Result<RoleSessionCredentials, Error> {
    Ok(RoleSessionCredentials {
        credentials: SessionCredentials {
            access_key_id: "ASIAEXAMPLEEXAMPLE12".to_owned(),
            secret_access_key: "s".repeat(40).into(),
            session_token: "t".repeat(SESSION_TOKEN_LENGTH).into(),
            expires_at: now().wall + LIFETIME,
            account: None,
        },
        assumed_role_arn: "arn:aws:sts::111122223333:assumed-role/app/eks-bench-checkout-service".parse()?,
        assumed_role_id: "AROAEXAMPLEEXAMPLE123:eks-bench-checkout-service".to_owned(),
    })
}
