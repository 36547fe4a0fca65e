//! How fast credentials are renewed, in virtual time.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use pod_identity_agent::broker::{Broker, LocalAddresses};
use pod_identity_agent::config::{Budgets, TokenKeys};
use pod_identity_agent::exchange::ExchangeError;
use pod_identity_agent::judge::Judge;
use pod_identity_core::cache::CacheConfig;
use pod_identity_core::credentials::SessionCredentials;
use pod_identity_core::source::{CredentialSource, SubjectCredentials};
use pod_identity_core::token::{BearerToken, claimed_identity};
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_local::laptop::Workload;
use pod_identity_runtime::admin::Readiness;
use pod_identity_runtime::clock::Clock;
use pod_identity_runtime::shutdown::Shutdown;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const PODS: u8 = 40;

/// Gives the pod `brief` a minute and all others an hour.
struct Source {
    clock: Clock,
    long_sessions: Arc<AtomicUsize>,
}

impl CredentialSource for Source {
    type Error = ExchangeError;

    async fn exchange(&self, token: &BearerToken) -> Result<SubjectCredentials, ExchangeError> {
        let (identity, _) = claimed_identity(token)?;
        let brief = identity.pod.name.as_str() == "brief";
        let life = if brief { HOUR / 60 } else { HOUR };
        self.long_sessions.fetch_add(usize::from(!brief), Ordering::SeqCst);
        Ok(SubjectCredentials {
            namespace: identity.namespace,
            service_account: identity.service_account,
            credentials: SessionCredentials::new("ASIA", "secret", "token", self.clock.now().wall + life),
        })
    }
}

#[tokio::test(start_paused = true)]
async fn one_short_session_does_not_set_the_pace_of_renewals_for_good() {
    let (hand, clock) = Clock::by_hand(SystemTime::UNIX_EPOCH + 500_000 * HOUR);
    let long_sessions = Arc::new(AtomicUsize::new(0));
    let source = Source { clock: clock.clone(), long_sessions: long_sessions.clone() };
    // Enough for 40 sessions of an hour, which needs 0.044 a second; one of a minute among them needs 2.7.
    let budgets = Budgets { renewals_per_second: 0.05, ..Budgets::default() };
    let judge = Judge::new(TokenKeys::None, clock.clone()).unwrap();
    let (cache, ready) = (CacheConfig::default(), Readiness::default());
    let broker = Arc::new(Broker::new(
        cache,
        budgets,
        LocalAddresses::probe(vec![]),
        source,
        judge,
        ready,
        clock.clone(),
    ));
    tokio::spawn(broker.clone().renew(Shutdown::never()));

    let issuer = Issuer::new("https://a.test", "http://127.0.0.1:1", KeyAlgorithm::Es256).unwrap();
    let names = (0..PODS).map(|number| format!("app-{number}")).chain(["brief".to_owned()]);
    for (number, name) in (0..).zip(names) {
        let pod = Workload::new("default".parse().unwrap(), "app".parse().unwrap(), name.parse().unwrap());
        let token = issuer.mint(&pod.unwrap().token_request(clock.now().wall, 24 * HOUR)).unwrap();
        let address = IpAddr::from([10, 0, 0, number]);
        broker.credentials(&BearerToken::parse(&token).unwrap(), address).await.unwrap();
    }
    let renewed = || long_sessions.load(Ordering::SeqCst) - usize::from(PODS);

    // All sessions of an hour are due after 27 to 33 minutes. Nobody has asked for the short one for long.
    for _ in 0..34 * 60 {
        hand.advance(SECOND);
        tokio::time::sleep(SECOND).await;
    }
    // Seven minutes at 0.05 a second are 21, and one or two that were saved.
    assert!((10..=23).contains(&renewed()), "{} of {PODS} renewed within seven minutes", renewed());
    for _ in 0..16 * 60 {
        hand.advance(SECOND);
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(renewed(), usize::from(PODS), "before the first of them ends");
}
