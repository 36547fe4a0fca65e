//! The rate of renewals, in virtual time.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use pod_identity_core::cluster::Cluster;
use pod_identity_core::credentials::SessionCredentials;
use pod_identity_core::service::{
    Clock, CredentialRequest, CredentialService, CredentialSource, IssueFuture, Peer, ServiceConfig,
    TokenVerification,
};
use pod_identity_local::issuer::{Issuer, KeyAlgorithm};
use pod_identity_local::services::Workload;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const PODS: u8 = 40;

/// Issues sessions of a minute for the pod `brief`, and of an hour for all others.
struct Source {
    clock: Clock,
    long_sessions: Arc<AtomicUsize>,
}

impl CredentialSource for Source {
    fn issue<'a>(&'a self, request: &'a CredentialRequest) -> IssueFuture<'a> {
        let brief = request.identity().pod.name.as_str() == "brief";
        let life = if brief { HOUR / 60 } else { HOUR };
        self.long_sessions.fetch_add(usize::from(!brief), Ordering::SeqCst);
        let credentials = SessionCredentials::new("ASIA", "secret", "token", self.clock.now().wall + life);
        Box::pin(async move { Ok(credentials) })
    }
}

#[tokio::test(start_paused = true)]
async fn one_short_session_does_not_raise_the_renewal_rate_permanently() {
    let (hand, clock) = Clock::manual(SystemTime::UNIX_EPOCH + 500_000 * HOUR);
    let long_sessions = Arc::new(AtomicUsize::new(0));
    let source = Source { clock: clock.clone(), long_sessions: long_sessions.clone() };
    // 40 sessions of an hour need 0.044 renewals per second; with one session of a minute, 2.7.
    let mut config = ServiceConfig::default();
    config.limits.renewals_per_second = 0.05;
    let service = CredentialService::builder(source)
        .cluster(Cluster::new("demo".parse().unwrap()), TokenVerification::upstream())
        .config(config)
        .clock(clock.clone())
        .build()
        .unwrap();

    let issuer = Issuer::new("https://a.test", "http://127.0.0.1:1", KeyAlgorithm::Es256).unwrap();
    let names = (0..PODS).map(|number| format!("app-{number}")).chain(["brief".to_owned()]);
    for (number, name) in (0..).zip(names) {
        let pod = Workload::new("default".parse().unwrap(), "app".parse().unwrap(), name.parse().unwrap());
        let token = issuer.mint(&pod.unwrap().token_request(clock.now().wall, 24 * HOUR)).unwrap();
        let address = IpAddr::from([10, 0, 0, number]);
        service.credentials(&token, Peer::Remote(address)).await.unwrap();
    }
    let renewed = || long_sessions.load(Ordering::SeqCst) - usize::from(PODS);

    // All sessions of an hour are due after 27 to 33 minutes. The short session is not used any more.
    for _ in 0..34 * 60 {
        hand.advance(SECOND);
        tokio::time::sleep(SECOND).await;
    }
    // 0.05 per second are 21 in seven minutes, and one or two saved permits.
    assert!((10..=23).contains(&renewed()), "{} of {PODS} renewed within seven minutes", renewed());
    for _ in 0..16 * 60 {
        hand.advance(SECOND);
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(renewed(), usize::from(PODS), "all are renewed before the first expiry");
}
