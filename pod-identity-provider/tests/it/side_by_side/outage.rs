//! A client's requests during an outage of the agent, with short-lived credentials, in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use pod_identity_provider::PodIdentityCredentialsProvider;
use tokio::time::Instant;

use super::client::Resolver;
use super::{Implementation, JOB, Job, RESULT_PREFIX, job, process};

pub(super) const WHAT: &str = "credentials of 60 s, through a client's identity cache: a request each second for two \
                               minutes, and no agent from the 20th second to the 56th, 4 s before the first expiry";

const LIFETIME: Duration = Duration::from_secs(60);
const OUTAGE: std::ops::Range<u64> = 20..56;
const REQUESTS: usize = 120;
/// Results up to this number vary, because the SDK's pauses are random.
const MAX_RANDOM: usize = 10;

/// Runs one provider through the outage.
pub(super) fn run(implementation: Implementation) -> String {
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials".to_owned()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", super::TOKEN.to_owned()),
        (
            JOB,
            serde_json::to_string(&Job { implementation, attempt_ms: None, through_cache: true, dns: None })
                .unwrap(),
        ),
    ];
    process("side_by_side::outage::one_client_during_an_outage", env)
}

#[tokio::test(start_paused = true)]
#[ignore = "started in a child process by table_in_the_readme_is_current"]
async fn one_client_during_an_outage() {
    let Some(job) = job() else { return };
    let time = VirtualClock(Instant::now());
    let (provider, cache) = provider(job.implementation, time);
    let resolver = Resolver::new(provider, cache, time);
    let affected = Arc::new(AtomicUsize::new(0));
    let requests = (0..REQUESTS).map(|second| {
        let (resolver, affected) = (resolver.clone(), affected.clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(time.0 + Duration::from_secs(second as u64)).await;
            let start = Instant::now();
            let identity = resolver.resolve().await;
            let waited = start.elapsed() > Duration::from_millis(10);
            affected.fetch_add(usize::from(identity.is_err() || waited), Ordering::Relaxed);
        })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    let affected = match affected.load(Ordering::Relaxed) {
        0 => "**no request**".to_owned(),
        1..=MAX_RANDOM => format!("1 to {MAX_RANDOM} of {REQUESTS} requests"),
        many => format!("{many} of {REQUESTS} requests"),
    };
    println!("{RESULT_PREFIX}{affected} failed or waited");
}

fn provider(
    implementation: Implementation,
    time: VirtualClock,
) -> (SharedCredentialsProvider, Option<SharedIdentityCache>) {
    match implementation {
        Implementation::ThisCrate => {
            let provider =
                PodIdentityCredentialsProvider::builder().http_client(Agent(time)).time_source(time).build();
            let cache = provider.identity_cache();
            (SharedCredentialsProvider::new(provider), Some(cache))
        }
        Implementation::Sdk => {
            let config = ProviderConfig::empty()
                .with_http_client(Agent(time))
                .with_sleep_impl(TokioSleep::new())
                .with_time_source(time);
            let provider = EcsCredentialsProvider::builder().configure(&config).build();
            (SharedCredentialsProvider::new(provider), None)
        }
    }
}

/// A virtual wall clock that starts at a fixed time.
#[derive(Debug, Clone, Copy)]
struct VirtualClock(Instant);

impl TimeSource for VirtualClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_327_200) + self.0.elapsed()
    }
}

/// An agent that answers immediately, except during the outage.
#[derive(Debug, Clone)]
struct Agent(VirtualClock);

impl HttpClient for Agent {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Agent {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        assert_eq!(request.uri(), "http://169.254.170.23/v1/credentials");
        assert_eq!(request.headers().get("authorization"), Some(super::TOKEN));
        if OUTAGE.contains(&self.0.0.elapsed().as_secs()) {
            return HttpConnectorFuture::ready(Err(ConnectorError::io("connection refused".into())));
        }
        let expiration = jiff::Timestamp::try_from(self.0.now() + LIFETIME).unwrap();
        let body = serde_json::json!({
            "AccessKeyId": "ASIAEXAMPLE",
            "SecretAccessKey": "secret",
            "Token": "token",
            "Expiration": format!("{expiration:.0}"),
        });
        HttpConnectorFuture::ready(Ok(HttpResponse::new(
            200.try_into().unwrap(),
            SdkBody::from(body.to_string()),
        )))
    }
}
