//! Clients of STS with a provider's identity cache. The signature of a request contains its access key id.

use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_sts::Client;
use aws_sdk_sts::config::{BehaviorVersion, Builder, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::display::DisplayErrorContext;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::error::Error;
use crate::scripted::{Behavior, HOUR, SECOND, agent_down, settle, source};

/// An STS that accepts every request and records the access key ids.
#[derive(Debug, Clone, Default)]
struct Sts(Arc<Mutex<Vec<String>>>);

impl HttpConnector for Sts {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let signature = request.headers().get("authorization").unwrap();
        let (_, scope) = signature.split_once("Credential=").unwrap();
        self.0.lock().unwrap().push(scope.split_once('/').unwrap().0.to_owned());
        // STS API reference, *GetCallerIdentity*.
        let answer = "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>111122223333</Account>\
                      </GetCallerIdentityResult></GetCallerIdentityResponse>";
        HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().unwrap(), SdkBody::from(answer))))
    }
}

impl Sts {
    fn client(&self, source: &Source, provider: &PodIdentityCredentialsProvider) -> Client {
        self.client_with(source, provider.clone(), provider.identity_cache())
    }

    fn client_with(
        &self,
        source: &Source,
        provider: impl ProvideCredentials + 'static,
        cache: SharedIdentityCache,
    ) -> Client {
        let connector = SharedHttpConnector::new(self.clone());
        let config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .time_source(source.wall())
            .identity_cache(cache)
            .credentials_provider(provider);
        Client::from_conf(config.build())
    }

    /// Makes a request and returns its access key id.
    async fn access_key_id(&self, client: &Client) -> String {
        self.access_key_id_with(client, Builder::new()).await
    }

    /// Makes a request that overrides the client's configuration, and returns its access key id.
    async fn access_key_id_with(&self, client: &Client, config_override: Builder) -> String {
        client.get_caller_identity().customize().config_override(config_override).send().await.unwrap();
        self.0.lock().unwrap().pop().unwrap()
    }
}

/// Returns a configuration that overrides the provider for one operation. It sets the cache too, because the SDK otherwise
/// creates a new cache for the operation.
fn override_with(provider: &SharedCredentialsProvider, cache: &SharedIdentityCache) -> Builder {
    let mut builder = Builder::new();
    builder.set_credentials_provider(Some(provider.clone())).set_identity_cache(cache.clone());
    builder
}

#[tokio::test(start_paused = true)]
async fn client_signs_with_renewed_credentials_without_waiting() {
    let (source, wall) = source(HOUR);
    let (sts, provider) = (Sts::default(), provider(&source));
    let client = sts.client(&source, &provider);
    for renewal in 1..=5 {
        for _ in 0..3 {
            assert_eq!(sts.access_key_id(&client).await, format!("ASIA{renewal}"));
        }
        wall.advance(50 * 60);
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(sts.access_key_id(&client).await, format!("ASIA{renewal}"));
        settle().await;
    }
    assert_eq!(source.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn clients_share_each_fetch_with_and_without_a_shared_cache() {
    let (source, _) = source(HOUR);
    source.set_latency(SECOND); // all clients make their request meanwhile
    let (sts, provider) = (Sts::default(), provider(&source));
    let cache = provider.identity_cache();
    let mut clients = vec![sts.client(&source, &provider), sts.client(&source, &provider)];
    clients.extend((0..3).map(|_| sts.client_with(&source, provider.clone(), cache.clone())));
    let mut calls = JoinSet::new();
    for client in clients.clone() {
        let sts = sts.clone();
        calls.spawn(async move { sts.access_key_id(&client).await });
    }
    let started = Instant::now();
    assert_eq!(calls.join_all().await, ["ASIA1"; 5]);
    assert_eq!((source.calls(), started.elapsed()), (1, SECOND));
    for client in &clients {
        assert_eq!(sts.access_key_id(client).await, "ASIA1");
    }
    assert_eq!(provider.credentials().await.unwrap().access_key_id(), "ASIA1");
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn operation_with_another_provider_is_signed_with_its_credentials() {
    let ((ours, _), (others, _)) = (source(HOUR), source(HOUR));
    let (sts, provider) = (Sts::default(), provider(&ours));
    let cache = provider.identity_cache();
    let client = sts.client_with(&ours, provider, cache.clone());
    let fixed = Credentials::new("AKIAFIXED", "secret", None, None, "test");
    let fixed = SharedCredentialsProvider::new(fixed);
    let kept = SharedCredentialsProvider::new(others.clone());
    for _ in 0..5 {
        assert_eq!(sts.access_key_id(&client).await, "ASIA1");
        assert_eq!(sts.access_key_id_with(&client, override_with(&fixed, &cache)).await, "AKIAFIXED");
        assert_eq!(sts.access_key_id_with(&client, override_with(&kept, &cache)).await, "ASIA1");
        let without_cache = Builder::new().credentials_provider(fixed.clone());
        assert_eq!(sts.access_key_id_with(&client, without_cache).await, "AKIAFIXED");
    }
    assert_eq!((ours.calls(), others.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn each_request_is_signed_with_the_credentials_of_its_own_provider() {
    let ((one, clock_of_one), (two, clock_of_two)) = (source(HOUR), source(2 * HOUR));
    // So that the access key ids differ.
    for _ in 0..4 {
        two.call().await.unwrap();
    }
    let (sts, of_one, of_two) = (Sts::default(), provider(&one), provider(&two));
    let client = sts.client(&one, &of_one);
    let (shared, cache) = (SharedCredentialsProvider::new(of_two.clone()), of_two.identity_cache());
    let as_two = || override_with(&shared, &cache);
    for renewal in 0..4 {
        for _ in 0..3 {
            assert_eq!(sts.access_key_id(&client).await, format!("ASIA{}", 1 + renewal));
            assert_eq!(sts.access_key_id_with(&client, as_two()).await, format!("ASIA{}", 5 + renewal));
        }
        clock_of_one.advance(50 * 60);
        clock_of_two.advance(110 * 60);
        tokio::time::sleep(2 * SECOND).await;
        sts.access_key_id(&client).await;
        sts.access_key_id_with(&client, as_two()).await;
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn client_error_contains_cause_and_fix() {
    let (source, wall) = source(HOUR);
    let (sts, error) = (Sts::default(), || Error::unusable("AWS_REGION", "is not set", "Set it"));
    let client = sts.client(&source, &provider(&source));
    for _ in 0..2 {
        source.set_behavior(Behavior::Fail(|| Error::unusable("AWS_REGION", "is not set", "Set it").into()));
        let failed = client.get_caller_identity().send().await.unwrap_err();
        assert_eq!(Error::of(&failed).unwrap().to_string(), error().to_string());
        for printed in [format!("{failed:?}"), DisplayErrorContext(&failed).to_string()] {
            assert!(printed.contains(&error().to_string()), "{printed}");
        }

        tokio::time::sleep(2 * SECOND).await;
        source.set_behavior(Behavior::ExpireAfter(HOUR));
        sts.access_key_id(&client).await;
        wall.advance(2 * 3600);
    }
    source.set_behavior(Behavior::Fail(agent_down));
    let failed = client.get_caller_identity().send().await.unwrap_err();
    assert!(DisplayErrorContext(&failed).to_string().contains("the agent is down"), "{failed:?}");
}
