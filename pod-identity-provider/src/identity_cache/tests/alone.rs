//! The cache without a client: the resolvers that it serves from the cell.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::future;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime::client::auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme};
use aws_smithy_runtime::client::identity::no_auth::NoAuthIdentityResolver;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_types::error::display::DisplayErrorContext;
use tokio::runtime::Handle;

use super::super::*;
use super::*;
use crate::scripted::{Behavior, HOUR, SECOND, WallClock, agent_down, settle, source};

/// A provider's cache, with the runtime components of a client.
struct Resolving {
    cache: ProviderIdentityCache,
    components: RuntimeComponents,
}

impl Resolving {
    fn new(provider: &PodIdentityCredentialsProvider, wall: &WallClock) -> Self {
        let components = RuntimeComponents::builder("test")
            .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(Vec::new())))
            .with_auth_scheme(NoAuthScheme::new())
            .with_identity_resolver(NO_AUTH_SCHEME_ID, NoAuthIdentityResolver::new())
            .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(1)))
            .with_identity_cache(Some(provider.identity_cache()))
            .with_retry_strategy(Some(NeverRetryStrategy::new()))
            .with_time_source(Some(wall.clone()))
            .with_sleep_impl(Some(TokioSleep::new()))
            .build();
        Self { cache: provider.new_identity_cache(), components: components.unwrap() }
    }

    async fn identity(&self, resolver: &SharedIdentityResolver) -> Result<Identity, BoxError> {
        let config = ConfigBag::base();
        self.cache.resolve_cached_identity(resolver.clone(), &self.components, &config).await
    }

    async fn access_key_id(&self, resolver: &SharedIdentityResolver) -> String {
        let identity = self.identity(resolver).await.unwrap();
        identity.data::<Credentials>().unwrap().access_key_id().to_owned()
    }
}

/// Returns a provider of this crate and its cache.
fn resolving(source: &Source) -> (PodIdentityCredentialsProvider, Resolving) {
    let provider = provider(source);
    let resolving = Resolving::new(&provider, &source.wall());
    (provider, resolving)
}

/// Wraps a provider as a configuration of the SDK does.
fn resolver(provider: impl ProvideCredentials + 'static) -> SharedIdentityResolver {
    SharedIdentityResolver::new(SharedCredentialsProvider::new(provider))
}

/// A provider that wraps another one and counts its calls.
#[derive(Debug, Clone)]
struct Wrapper<P>(P, Arc<AtomicUsize>);

impl<P: ProvideCredentials> ProvideCredentials for Wrapper<P> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.provide_credentials()
    }
}

fn wrapper<P>(provider: P) -> (Wrapper<P>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    (Wrapper(provider, calls.clone()), calls)
}

#[tokio::test(start_paused = true)]
async fn serves_the_providers_resolver_from_the_cell() {
    let (source, wall) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let own = resolver(provider.clone());
    for renewal in 1..=3 {
        for _ in 0..100 {
            assert_eq!(resolving.access_key_id(&own).await, format!("ASIA{renewal}"));
        }
        assert_eq!(resolving.cache.partition.get(), Some(&own.cache_partition()));
        wall.advance(50 * 60);
        tokio::time::sleep(2 * SECOND).await;
        // The credentials are due. This request starts the renewal and does not wait.
        assert_eq!(resolving.access_key_id(&own).await, format!("ASIA{renewal}"));
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn sdks_cache_serves_a_wrapper_around_the_provider() {
    let (source, wall) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let (wrapped, calls) = wrapper(provider.clone());
    let wrapped = resolver(wrapped);
    for _ in 0..10 {
        assert_eq!(resolving.access_key_id(&wrapped).await, "ASIA1");
    }
    assert_eq!((resolving.cache.partition.get(), calls.load(Ordering::Relaxed)), (None, 1));
    // The cell renews. The SDK's cache keeps the credentials of the wrapper until their expiry.
    wall.advance(50 * 60);
    provider.credentials().await.unwrap();
    settle().await;
    assert_eq!(provider.credentials().await.unwrap().access_key_id(), "ASIA2");
    assert_eq!(
        (resolving.access_key_id(&wrapped).await.as_str(), calls.load(Ordering::Relaxed)),
        ("ASIA1", 1)
    );
    wall.advance(10 * 60);
    assert_eq!(
        (resolving.access_key_id(&wrapped).await.as_str(), calls.load(Ordering::Relaxed)),
        ("ASIA2", 2)
    );
}

#[tokio::test(start_paused = true)]
async fn wrapper_that_later_returns_other_credentials_is_not_served_from_the_cell() {
    /// Calls the provider, and returns fixed credentials after an error.
    #[derive(Debug)]
    struct ProviderOrFixed(PodIdentityCredentialsProvider);
    impl ProvideCredentials for ProviderOrFixed {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                let fixed = Credentials::new("AKIAFIXED", "secret", None, None, "test");
                Ok(self.0.credentials().await.unwrap_or(fixed))
            })
        }
    }
    let (source, wall) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let (own, chain) = (resolver(provider.clone()), resolver(ProviderOrFixed(provider)));
    for resolver in [&chain, &own, &chain] {
        assert_eq!(resolving.access_key_id(resolver).await, "ASIA1");
    }
    source.set_behavior(Behavior::Fail(agent_down));
    wall.advance(2 * 3600);
    assert_eq!(resolving.access_key_id(&chain).await, "AKIAFIXED");
    let error = resolving.identity(&own).await.unwrap_err();
    assert!(format!("{}", DisplayErrorContext(&*error)).contains("the agent is down"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn sdks_cache_serves_another_provider_of_this_crate() {
    let ((one, _), (other, _)) = (source(HOUR), source(HOUR));
    for _ in 0..4 {
        other.call().await.unwrap(); // so that the access key ids differ
    }
    let ((ours, resolving), others) = (resolving(&one), provider(&other));
    let (ours, others) = (resolver(ours), resolver(others));
    for _ in 0..10 {
        assert_eq!(
            (resolving.access_key_id(&others).await, resolving.access_key_id(&ours).await),
            ("ASIA5".into(), "ASIA1".into())
        );
    }
    assert_eq!(resolving.cache.partition.get(), Some(&ours.cache_partition()));
    assert_eq!((one.calls(), other.calls()), (1, 5));
}

#[tokio::test(start_paused = true)]
async fn second_resolver_of_the_provider_returns_the_same_credentials() {
    let (source, _) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let (first, second) = (resolver(provider.clone()), resolver(provider));
    for resolver in [&first, &second, &first, &second] {
        assert_eq!(resolving.access_key_id(resolver).await, "ASIA1");
    }
    assert_eq!(resolving.cache.partition.get(), Some(&first.cache_partition()));
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn sdks_cache_serves_a_provider_that_is_wrapped_twice() {
    let (source, _) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let twice = resolver(SharedCredentialsProvider::new(provider));
    for _ in 0..10 {
        assert_eq!(resolving.access_key_id(&twice).await, "ASIA1");
    }
    assert_eq!((resolving.cache.partition.get(), source.calls()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn sdks_cache_serves_identities_without_credentials() {
    #[derive(Debug, Default)]
    struct Tokens(AtomicUsize);
    impl ResolveIdentity for Tokens {
        fn resolve_identity<'a>(&'a self, _: &'a RuntimeComponents, _: &'a ConfigBag) -> IdentityFuture<'a> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            IdentityFuture::ready(Ok(Identity::new(format!("token {number}"), None)))
        }
    }
    let (source, _) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let ours = resolver(provider);
    let tokens = SharedIdentityResolver::new(Tokens::default());
    let no_auth = SharedIdentityResolver::new(NoAuthIdentityResolver::new());
    for _ in 0..10 {
        assert_eq!(resolving.identity(&tokens).await.unwrap().data::<String>().unwrap(), "token 0");
        assert!(resolving.identity(&no_auth).await.unwrap().data::<Credentials>().is_none());
        assert_eq!(resolving.access_key_id(&ours).await, "ASIA1");
    }
}

#[tokio::test(start_paused = true)]
async fn serves_credentials_until_expiry_during_an_outage() {
    let (source, wall) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let own = resolver(provider);
    assert_eq!(resolving.access_key_id(&own).await, "ASIA1");
    source.set_behavior(Behavior::Fail(agent_down));
    wall.advance(50 * 60);
    for _ in 0..9 * 60 {
        assert_eq!(resolving.access_key_id(&own).await, "ASIA1");
        tokio::time::sleep(SECOND).await;
    }
    wall.advance(60);
    resolving.identity(&own).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn renewal_task_ends_with_the_provider_and_its_caches() {
    let (source, _) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    assert_eq!(resolving.access_key_id(&resolver(provider.clone())).await, "ASIA1");
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
    drop(provider);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
    drop(resolving);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn debug_prints_no_secrets() {
    let (source, _) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let identity = resolving.identity(&resolver(provider.clone())).await.unwrap();
    let credentials = provider.credentials().await.unwrap();
    assert!(format!("{identity:?} {:?}", resolving.cache).contains("ASIA1"));
    let printed: [&dyn fmt::Debug; 4] = [&identity, &credentials, &resolving.cache, &provider];
    for printed in printed.map(|printed| format!("{printed:?} {printed:#?}")) {
        for secret in [credentials.secret_access_key(), credentials.session_token().unwrap()] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_first_requests_share_one_fetch() {
    let (source, _) = source(HOUR);
    source.set_latency(Duration::from_secs(3));
    let (provider, resolving) = resolving(&source);
    let (resolving, resolver) = (Arc::new(resolving), resolver(provider));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (resolving, resolver) = (resolving.clone(), resolver.clone());
            tokio::spawn(async move { resolving.access_key_id(&resolver).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "ASIA1");
    }
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn identity_has_the_expiry_of_its_credentials() {
    let (source, wall) = source(HOUR);
    let expiry: SystemTime = aws_smithy_async::time::TimeSource::now(&wall) + HOUR;
    let (provider, resolving) = resolving(&source);
    let own = resolver(provider);
    for _ in 0..2 {
        assert_eq!(resolving.identity(&own).await.unwrap().expiration(), Some(expiry));
    }
}
