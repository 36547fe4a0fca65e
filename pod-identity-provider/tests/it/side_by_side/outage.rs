//! Short credentials, and an agent that is away for a while: what a client's identity cache makes of it, in virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime::client::auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::identity::no_auth::NoAuthIdentityResolver;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::identity::{
    ResolveCachedIdentity as _, SharedIdentityCache, SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use pod_identity_provider::{PodIdentityCredentialsProvider, identity_cache};
use tokio::time::Instant;

use super::{JOB, Job, OUTCOME, Side, job, process};

pub(super) const WHAT: &str = "credentials of 60 s, a client's request each second for two minutes, and no agent from the \
                               20th to the 56th";

const LIFE: Duration = Duration::from_secs(60);
const AWAY: std::ops::Range<u64> = 20..56;
const REQUESTS: u64 = 120;

/// Has one of the providers go through it.
pub(super) fn ask(side: Side) -> String {
    let env = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials".to_owned()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", super::TOKEN.to_owned()),
        (JOB, serde_json::to_string(&Job { side, attempt_ms: None, dns: None }).unwrap()),
    ];
    process("side_by_side::outage::one_client_goes_through_an_outage", env)
}

#[tokio::test(start_paused = true)]
#[ignore = "a part of the table of both providers, which starts it with an environment of its own"]
async fn one_client_goes_through_an_outage() {
    let Some(job) = job() else { return };
    let time = Virtual(Instant::now());
    let (cache, provider) = client(job.side, time);
    let resolver = SharedIdentityResolver::new(provider);
    let components = components(time);
    let hurt = Arc::new(AtomicUsize::new(0));
    let requests = (0..REQUESTS).map(|second| {
        let (cache, resolver, components) = (cache.clone(), resolver.clone(), components.clone());
        let hurt = hurt.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(time.0 + Duration::from_secs(second)).await;
            let start = Instant::now();
            let identity = cache.resolve_cached_identity(resolver, &components, &ConfigBag::base()).await;
            let waited = start.elapsed() > Duration::from_millis(10);
            hurt.fetch_add(usize::from(identity.is_err() || waited), Ordering::Relaxed);
        })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    let hurt = if hurt.load(Ordering::Relaxed) == 0 { "**no request**" } else { "requests" };
    println!("{OUTCOME}{hurt} failed or waited");
}

fn client(side: Side, time: Virtual) -> (SharedIdentityCache, SharedCredentialsProvider) {
    match side {
        Side::Ours => {
            let provider =
                PodIdentityCredentialsProvider::builder().http_client(Agent(time)).time_source(time);
            (identity_cache(), SharedCredentialsProvider::new(provider.build()))
        }
        Side::Sdk => {
            let config = ProviderConfig::empty()
                .with_http_client(Agent(time))
                .with_sleep_impl(TokioSleep::new())
                .with_time_source(time);
            let provider = EcsCredentialsProvider::builder().configure(&config).build();
            (IdentityCache::lazy().build(), SharedCredentialsProvider::new(provider))
        }
    }
}

fn components(time: Virtual) -> RuntimeComponents {
    RuntimeComponents::builder("test")
        .with_sleep_impl(Some(SharedAsyncSleep::new(TokioSleep::new())))
        .with_time_source(Some(SharedTimeSource::new(time)))
        .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(vec![NO_AUTH_SCHEME_ID])))
        .with_auth_scheme(NoAuthScheme::new())
        .with_identity_resolver(NO_AUTH_SCHEME_ID, NoAuthIdentityResolver::new())
        .with_identity_cache(Some(IdentityCache::no_cache()))
        .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(0)))
        .with_retry_strategy(Some(NeverRetryStrategy::new()))
        .build()
        .unwrap()
}

/// The time since a start, after some day of the past.
#[derive(Debug, Clone, Copy)]
struct Virtual(Instant);

impl TimeSource for Virtual {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_327_200) + self.0.elapsed()
    }
}

/// An agent that answers at once, or is away.
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
