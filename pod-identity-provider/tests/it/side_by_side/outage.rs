//! Short-lived credentials and an agent that is down for a while, through a client's identity cache, in virtual time.

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
use super::{JOB, Job, OUTCOME, Side, job, process};

pub(super) const WHAT: &str = "credentials of 60 s, through a client's identity cache: a request each second for two \
                               minutes, and no agent from the 20th second to the 56th, 4 s before the first expiry";

const LIFE: Duration = Duration::from_secs(60);
const AWAY: std::ops::Range<u64> = 20..56;
const REQUESTS: usize = 120;
/// Up to this number the result varies with the random pauses of the SDK.
const A_FEW: usize = 10;

/// Runs one provider through the outage.
pub(super) fn ask(side: Side) -> String {
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials".to_owned()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", super::TOKEN.to_owned()),
        (
            JOB,
            serde_json::to_string(&Job { side, attempt_ms: None, through_cache: true, dns: None }).unwrap(),
        ),
    ];
    process("side_by_side::outage::one_client_goes_through_an_outage", env)
}

#[tokio::test(start_paused = true)]
#[ignore = "a part of the table of both providers, which starts it with an environment of its own"]
async fn one_client_goes_through_an_outage() {
    let Some(job) = job() else { return };
    let time = Virtual(Instant::now());
    let (provider, cache) = provider(job.side, time);
    let resolver = Resolver::new(provider, cache, time);
    let hurt = Arc::new(AtomicUsize::new(0));
    let requests = (0..REQUESTS).map(|second| {
        let (resolver, hurt) = (resolver.clone(), hurt.clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(time.0 + Duration::from_secs(second as u64)).await;
            let start = Instant::now();
            let identity = resolver.resolve().await;
            let waited = start.elapsed() > Duration::from_millis(10);
            hurt.fetch_add(usize::from(identity.is_err() || waited), Ordering::Relaxed);
        })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    let hurt = match hurt.load(Ordering::Relaxed) {
        0 => "**no request**".to_owned(),
        1..=A_FEW => format!("1 to {A_FEW} of {REQUESTS} requests"),
        many => format!("{many} of {REQUESTS} requests"),
    };
    println!("{OUTCOME}{hurt} failed or waited");
}

fn provider(side: Side, time: Virtual) -> (SharedCredentialsProvider, Option<SharedIdentityCache>) {
    match side {
        Side::Ours => {
            let provider =
                PodIdentityCredentialsProvider::builder().http_client(Agent(time)).time_source(time).build();
            let cache = provider.identity_cache();
            (SharedCredentialsProvider::new(provider), Some(cache))
        }
        Side::Sdk => {
            let config = ProviderConfig::empty()
                .with_http_client(Agent(time))
                .with_sleep_impl(TokioSleep::new())
                .with_time_source(time);
            let provider = EcsCredentialsProvider::builder().configure(&config).build();
            (SharedCredentialsProvider::new(provider), None)
        }
    }
}

/// A clock that starts at a fixed day.
#[derive(Debug, Clone, Copy)]
struct Virtual(Instant);

impl TimeSource for Virtual {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_327_200) + self.0.elapsed()
    }
}

/// An agent that answers at once, or is down.
#[derive(Debug, Clone)]
struct Agent(Virtual);

impl HttpClient for Agent {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Agent {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        assert_eq!(request.uri(), "http://169.254.170.23/v1/credentials");
        assert_eq!(request.headers().get("authorization"), Some(super::TOKEN));
        if AWAY.contains(&self.0.0.elapsed().as_secs()) {
            return HttpConnectorFuture::ready(Err(ConnectorError::io("connection refused".into())));
        }
        let expiration = jiff::Timestamp::try_from(self.0.now() + LIFE).unwrap();
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
