//! The cache without a client: which resolvers it serves from the cell.

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
use crate::scripted::{Answer, HOUR, SECOND, Wall, down, settle, source};

/// A provider's cache, with the parts that a client's request has.
struct Resolving {
    cache: ProviderIdentityCache,
    components: RuntimeComponents,
}

impl Resolving {
    fn new(provider: &PodIdentityCredentialsProvider, wall: &Wall) -> Self {
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

    /// The access key id of a resolver's identity.
    async fn key(&self, resolver: &SharedIdentityResolver) -> String {
        let identity = self.identity(resolver).await.unwrap();
        identity.data::<Credentials>().unwrap().access_key_id().to_owned()
    }
}

/// A provider of ours and its cache.
fn resolving(source: &Source) -> (PodIdentityCredentialsProvider, Resolving) {
    let provider = provider(source);
    let resolving = Resolving::new(&provider, &source.wall());
    (provider, resolving)
}

/// A resolver as a configuration of the SDK makes one.
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
async fn the_providers_own_resolver_is_served_from_the_cell_as_soon_as_it_is_renewed() {
    let (source, wall) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let own = resolver(provider.clone());
    for renewal in 1..=3 {
        for _ in 0..100 {
            assert_eq!(resolving.key(&own).await, format!("ASIA{renewal}"));
        }
        assert_eq!(resolving.cache.partition.get(), Some(&own.cache_partition()));
        wall.set(50 * 60);
        tokio::time::sleep(2 * SECOND).await;
        // Due: this request starts the renewal and does not wait for it.
        assert_eq!(resolving.key(&own).await, format!("ASIA{renewal}"));
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_or_a_wrapper_with_the_provider_inside_is_served_by_the_sdks_cache() {
    let (source, wall) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let (wrapped, calls) = wrapper(provider.clone());
    let wrapped = resolver(wrapped);
    for _ in 0..10 {
        assert_eq!(resolving.key(&wrapped).await, "ASIA1");
    }
    assert_eq!((resolving.cache.partition.get(), calls.load(Ordering::Relaxed)), (None, 1));
    // The cell renews. The SDK's cache keeps what the wrapper returned, until its expiry.
    wall.set(50 * 60);
    provider.credentials().await.unwrap();
    settle().await;
    assert_eq!(provider.credentials().await.unwrap().access_key_id(), "ASIA2");
    assert_eq!((resolving.key(&wrapped).await.as_str(), calls.load(Ordering::Relaxed)), ("ASIA1", 1));
    wall.set(10 * 60);
    assert_eq!((resolving.key(&wrapped).await.as_str(), calls.load(Ordering::Relaxed)), ("ASIA2", 2));
}

#[tokio::test(start_paused = true)]
async fn a_wrapper_that_returns_other_credentials_later_is_never_answered_for() {
    /// Our provider until it fails, then fixed credentials.
    #[derive(Debug)]
    struct OursOrFixed(PodIdentityCredentialsProvider);
    impl ProvideCredentials for OursOrFixed {
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
    let (own, chain) = (resolver(provider.clone()), resolver(OursOrFixed(provider)));
    for resolver in [&chain, &own, &chain] {
        assert_eq!(resolving.key(resolver).await, "ASIA1");
    }
    source.answers(Answer::Failure(down));
    wall.set(2 * 3600);
    assert_eq!(resolving.key(&chain).await, "AKIAFIXED");
    let error = resolving.identity(&own).await.unwrap_err();
    assert!(format!("{}", DisplayErrorContext(&*error)).contains("the agent is down"), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn another_provider_of_this_crate_is_served_by_the_sdks_cache() {
    let ((one, _), (other, _)) = (source(HOUR), source(HOUR));
    for _ in 0..4 {
        other.answer().await.unwrap(); // so that the answers differ
    }
    let ((ours, resolving), others) = (resolving(&one), provider(&other));
    let (ours, others) = (resolver(ours), resolver(others));
    for _ in 0..10 {
        assert_eq!(
            (resolving.key(&others).await, resolving.key(&ours).await),
            ("ASIA5".into(), "ASIA1".into())
        );
    }
    assert_eq!(resolving.cache.partition.get(), Some(&ours.cache_partition()));
    assert_eq!((one.calls(), other.calls()), (1, 5));
}

#[tokio::test(start_paused = true)]
async fn a_second_wrapper_of_the_provider_has_the_same_credentials() {
    let (source, _) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let (first, second) = (resolver(provider.clone()), resolver(provider));
    for resolver in [&first, &second, &first, &second] {
        assert_eq!(resolving.key(resolver).await, "ASIA1");
    }
    assert_eq!(resolving.cache.partition.get(), Some(&first.cache_partition()));
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_the_sdk_wraps_twice_is_served_by_the_sdks_cache() {
    let (source, _) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let twice = resolver(SharedCredentialsProvider::new(provider));
    for _ in 0..10 {
        assert_eq!(resolving.key(&twice).await, "ASIA1");
    }
    assert_eq!((resolving.cache.partition.get(), source.calls()), (None, 1));
}

#[tokio::test(start_paused = true)]
async fn identities_without_credentials_pass_through_the_sdks_cache() {
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
    let nobody = SharedIdentityResolver::new(NoAuthIdentityResolver::new());
    for _ in 0..10 {
        assert_eq!(resolving.identity(&tokens).await.unwrap().data::<String>().unwrap(), "token 0");
        assert!(resolving.identity(&nobody).await.unwrap().data::<Credentials>().is_none());
        assert_eq!(resolving.key(&ours).await, "ASIA1");
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_of_an_outage_are_served_until_they_expire() {
    let (source, wall) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    let own = resolver(provider);
    assert_eq!(resolving.key(&own).await, "ASIA1");
    source.answers(Answer::Failure(down));
    wall.set(50 * 60);
    for _ in 0..9 * 60 {
        assert_eq!(resolving.key(&own).await, "ASIA1");
        tokio::time::sleep(SECOND).await;
    }
    wall.set(60);
    resolving.identity(&own).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_provider_and_its_caches() {
    let (source, _) = source(HOUR);
    let (provider, resolving) = resolving(&source);
    assert_eq!(resolving.key(&resolver(provider.clone())).await, "ASIA1");
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
async fn no_secret_prints() {
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
async fn concurrent_first_requests_are_one_fetch() {
    let (source, _) = source(HOUR);
    source.takes(Duration::from_secs(3));
    let (provider, resolving) = resolving(&source);
    let (resolving, resolver) = (Arc::new(resolving), resolver(provider));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (resolving, resolver) = (resolving.clone(), resolver.clone());
            tokio::spawn(async move { resolving.key(&resolver).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "ASIA1");
    }
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_identity_has_the_expiry_of_its_credentials() {
    let (source, wall) = source(HOUR);
    let expiry: SystemTime = aws_smithy_async::time::TimeSource::now(&wall) + HOUR;
    let (provider, resolving) = resolving(&source);
    let own = resolver(provider);
    for _ in 0..2 {
        assert_eq!(resolving.identity(&own).await.unwrap().expiration(), Some(expiry));
    }
}
