//! Clients of STS with a provider's identity cache. The signature of a request names its access key.

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
use crate::scripted::{Answer, HOUR, SECOND, down, settle, source};

/// An STS that accepts every request and records the access keys.
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

    /// Makes a request and returns its access key.
    async fn signed(&self, client: &Client) -> String {
        self.signed_instead(client, Builder::new()).await
    }

    /// Makes a request with this configuration for the one operation.
    async fn signed_instead(&self, client: &Client, instead: Builder) -> String {
        client.get_caller_identity().customize().config_override(instead).send().await.unwrap();
        self.0.lock().unwrap().pop().unwrap()
    }
}

/// Another provider for one operation, with a cache: without one the SDK makes a new cache for the operation.
fn instead(provider: &SharedCredentialsProvider, cache: &SharedIdentityCache) -> Builder {
    let mut builder = Builder::new();
    builder.set_credentials_provider(Some(provider.clone())).set_identity_cache(cache.clone());
    builder
}

#[tokio::test(start_paused = true)]
async fn a_client_signs_with_new_credentials_as_soon_as_they_are_fetched_and_never_waits() {
    let (source, wall) = source(HOUR);
    let (sts, provider) = (Sts::default(), provider(&source));
    let client = sts.client(&source, &provider);
    for renewal in 1..=5 {
        for _ in 0..3 {
            assert_eq!(sts.signed(&client).await, format!("ASIA{renewal}"));
        }
        wall.set(50 * 60);
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(sts.signed(&client).await, format!("ASIA{renewal}"));
        settle().await;
    }
    assert_eq!(source.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn clients_with_clones_of_a_provider_share_each_fetch_with_and_without_a_shared_cache() {
    let (source, _) = source(HOUR);
    source.takes(SECOND); // all of them ask meanwhile
    let (sts, provider) = (Sts::default(), provider(&source));
    let cache = provider.identity_cache();
    let mut clients = vec![sts.client(&source, &provider), sts.client(&source, &provider)];
    clients.extend((0..3).map(|_| sts.client_with(&source, provider.clone(), cache.clone())));
    let mut calls = JoinSet::new();
    for client in clients.clone() {
        let sts = sts.clone();
        calls.spawn(async move { sts.signed(&client).await });
    }
    let begun = Instant::now();
    assert_eq!(calls.join_all().await, ["ASIA1"; 5]);
    assert_eq!((source.calls(), begun.elapsed()), (1, SECOND));
    for client in &clients {
        assert_eq!(sts.signed(client).await, "ASIA1");
    }
    assert_eq!(provider.credentials().await.unwrap().access_key_id(), "ASIA1");
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operation_with_another_provider_is_signed_with_its_credentials_which_the_sdk_caches() {
    let ((ours, _), (others, _)) = (source(HOUR), source(HOUR));
    let (sts, provider) = (Sts::default(), provider(&ours));
    let cache = provider.identity_cache();
    let client = sts.client_with(&ours, provider, cache.clone());
    let fixed = Credentials::new("AKIAFIXED", "secret", None, None, "test");
    let fixed = SharedCredentialsProvider::new(fixed);
    let kept = SharedCredentialsProvider::new(others.clone());
    for _ in 0..5 {
        assert_eq!(sts.signed(&client).await, "ASIA1");
        assert_eq!(sts.signed_instead(&client, instead(&fixed, &cache)).await, "AKIAFIXED");
        assert_eq!(sts.signed_instead(&client, instead(&kept, &cache)).await, "ASIA1");
        let without_cache = Builder::new().credentials_provider(fixed.clone());
        assert_eq!(sts.signed_instead(&client, without_cache).await, "AKIAFIXED");
    }
    assert_eq!((ours.calls(), others.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn each_request_is_signed_with_the_role_of_its_own_provider() {
    let ((one, wall_of_one), (two, wall_of_two)) = (source(HOUR), source(2 * HOUR));
    // So that the answers differ.
    for _ in 0..4 {
        two.answer().await.unwrap();
    }
    let (sts, of_one, of_two) = (Sts::default(), provider(&one), provider(&two));
    let client = sts.client(&one, &of_one);
    let (shared, cache) = (SharedCredentialsProvider::new(of_two.clone()), of_two.identity_cache());
    let as_two = || instead(&shared, &cache);
    for renewal in 0..4 {
        for _ in 0..3 {
            assert_eq!(sts.signed(&client).await, format!("ASIA{}", 1 + renewal));
            assert_eq!(sts.signed_instead(&client, as_two()).await, format!("ASIA{}", 5 + renewal));
        }
        wall_of_one.set(50 * 60);
        wall_of_two.set(110 * 60);
        tokio::time::sleep(2 * SECOND).await;
        sts.signed(&client).await;
        sts.signed_instead(&client, as_two()).await;
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clients_error_holds_cause_and_fix_before_and_after_there_were_credentials() {
    let (source, wall) = source(HOUR);
    let (sts, error) = (Sts::default(), || Error::unusable("AWS_REGION", "is not set", "Set it"));
    let client = sts.client(&source, &provider(&source));
    for _ in 0..2 {
        source.answers(Answer::Failure(|| Error::unusable("AWS_REGION", "is not set", "Set it").into()));
        let failed = client.get_caller_identity().send().await.unwrap_err();
        assert_eq!(Error::of(&failed).unwrap().to_string(), error().to_string());
        for printed in [format!("{failed:?}"), DisplayErrorContext(&failed).to_string()] {
            assert!(printed.contains(&error().to_string()), "{printed}");
        }

        tokio::time::sleep(2 * SECOND).await;
        source.answers(Answer::Lasting(HOUR));
        sts.signed(&client).await;
        wall.set(2 * 3600);
    }
    source.answers(Answer::Failure(down));
    let failed = client.get_caller_identity().send().await.unwrap_err();
    assert!(DisplayErrorContext(&failed).to_string().contains("the agent is down"), "{failed:?}");
}
