//! The cache without a client: resolvers of all kinds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{SharedCredentialsProvider, future};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime::client::auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme};
use aws_smithy_runtime::client::identity::no_auth::NoAuthIdentityResolver;
use aws_smithy_runtime::client::orchestrator::endpoints::StaticUriEndpointResolver;
use aws_smithy_runtime::client::retries::strategy::NeverRetryStrategy;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_types::error::display::DisplayErrorContext;
use tokio::runtime::Handle;

use super::super::*;
use super::*;
use crate::scripted::{Answer, HOUR, SECOND, Wall, away, source};

/// A cache, and what a client's request has beside it.
struct Resolving {
    cache: CellCache,
    components: RuntimeComponents,
}

impl Resolving {
    fn new(wall: &Wall) -> Self {
        let components = RuntimeComponents::builder("test")
            .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(Vec::new())))
            .with_auth_scheme(NoAuthScheme::new())
            .with_identity_resolver(NO_AUTH_SCHEME_ID, NoAuthIdentityResolver::new())
            .with_endpoint_resolver(Some(StaticUriEndpointResolver::http_localhost(1)))
            .with_identity_cache(Some(crate::identity_cache()))
            .with_retry_strategy(Some(NeverRetryStrategy::new()))
            .with_time_source(Some(wall.clone()))
            .with_sleep_impl(Some(TokioSleep::new()))
            .build();
        Self { cache: CellCache::default(), components: components.unwrap() }
    }

    async fn identity(&self, resolver: &SharedIdentityResolver) -> Result<Identity, BoxError> {
        let config = ConfigBag::base();
        self.cache.resolve_cached_identity(resolver.clone(), &self.components, &config).await
    }

    /// How many partitions the cache knows.
    fn known(&self) -> usize {
        self.cache.known.iter().filter_map(OnceLock::get).count()
    }

    /// The access key of what a resolver has.
    async fn key(&self, resolver: &SharedIdentityResolver) -> String {
        let identity = self.identity(resolver).await.unwrap();
        identity.data::<Credentials>().unwrap().access_key_id().to_owned()
    }
}

fn resolver(provider: impl ProvideCredentials + 'static) -> SharedIdentityResolver {
    SharedIdentityResolver::new(SharedCredentialsProvider::new(provider))
}

/// A provider around another that does with its answer what it likes.
struct Around<F>(PodIdentityCredentialsProvider, F);

impl<F> std::fmt::Debug for Around<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Around")
    }
}

impl<F: Fn(Credentials) -> Credentials + Send + Sync> ProvideCredentials for Around<F> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let given = self.0.credentials().await;
            given.map(&self.1)
        })
    }
}

fn fixed() -> Credentials {
    Credentials::new("AKIAFIXED", "secret", None, None, "test")
}

/// A chain of providers whose first has nothing, or fails, or hangs; the second is ours.
#[derive(Debug, Clone)]
struct Chain {
    ours: PodIdentityCredentialsProvider,
    first: Arc<Mutex<First>>,
    asked: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy)]
enum First {
    HasNothing,
    Fails,
    Hangs,
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let first = *self.first.lock().unwrap();
            match first {
                First::HasNothing => self.ours.credentials().await,
                First::Fails => Err(CredentialsError::provider_error("the first of the chain")),
                First::Hangs => std::future::pending().await,
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_that_fails_or_hangs_costs_one_request_a_second_while_our_credentials_hold() {
    let (source, wall) = source(HOUR);
    let resolving = Resolving::new(&wall);
    let chain = Chain {
        ours: provider(&source),
        first: Arc::new(Mutex::new(First::HasNothing)),
        asked: Arc::default(),
    };
    let ours = resolver(chain.clone());
    assert_eq!(resolving.key(&ours).await, "ASIA1");
    // They are due, and their source is away.
    source.answers(Answer::Failure(away));
    wall.set(50 * 60);
    for first in [First::Fails, First::Hangs] {
        *chain.first.lock().unwrap() = first;
        tokio::time::sleep(SECOND).await;
        let before = chain.asked.load(Ordering::Relaxed);
        let asks = resolving.identity(&ours);
        match first {
            First::Hangs => assert!(tokio::time::timeout(SECOND / 2, asks).await.is_err()),
            _ => drop(asks.await.unwrap()),
        }
        for _ in 0..100 {
            assert_eq!(resolving.key(&ours).await, "ASIA1");
        }
        assert_eq!(chain.asked.load(Ordering::Relaxed) - before, 1, "{first:?}");
    }
    // Past their end it is the chain's error that counts.
    *chain.first.lock().unwrap() = First::Fails;
    wall.set(3600);
    let error = resolving.identity(&ours).await.unwrap_err();
    assert!(format!("{}", DisplayErrorContext(&*error)).contains("the first of the chain"));
}

#[tokio::test(start_paused = true)]
async fn what_is_served_is_what_that_resolver_gave_and_it_is_asked_again_after_each_renewal() {
    let (source, wall) = source(HOUR);
    let (resolving, provider) = (Resolving::new(&wall), provider(&source));
    let (asked, others) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, turned) = (asked.clone(), others.clone());
    let wrapped = resolver(Around(provider.clone(), move |ours| {
        counted.fetch_add(1, Ordering::Relaxed);
        if turned.load(Ordering::Relaxed) { fixed() } else { ours }
    }));
    let plain = resolver(provider);
    for _ in 0..100 {
        assert_eq!(
            (resolving.key(&wrapped).await, resolving.key(&plain).await),
            ("ASIA1".into(), "ASIA1".into())
        );
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // It turns to other credentials. As in the SDK's own cache, what it gave is served until it is asked again.
    others.store(true, Ordering::Relaxed);
    assert_eq!(resolving.key(&wrapped).await, "ASIA1");
    wall.set(50 * 60);
    resolving.key(&plain).await;
    settle().await;
    let asked_before = asked.load(Ordering::Relaxed);
    for _ in 0..100 {
        assert_eq!(
            (resolving.key(&wrapped).await, resolving.key(&plain).await),
            ("AKIAFIXED".into(), "ASIA2".into())
        );
    }
    assert_eq!(
        asked.load(Ordering::Relaxed) - asked_before,
        2,
        "once by ours, once by the SDK's, which keeps it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_goes_from_one_of_our_providers_to_another_has_the_others_credentials() {
    #[derive(Debug)]
    struct OneThenOther([PodIdentityCredentialsProvider; 2], Arc<AtomicUsize>);
    impl ProvideCredentials for OneThenOther {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(self.0[self.1.load(Ordering::Relaxed)].credentials())
        }
    }
    let ((one, wall), (other, _)) = (source(HOUR), source(10 * HOUR));
    for _ in 0..4 {
        other.answer().await.unwrap();
    }
    let (resolving, which) = (Resolving::new(&wall), Arc::new(AtomicUsize::new(0)));
    let both = resolver(OneThenOther([provider(&one), provider(&other)], which.clone()));
    assert_eq!(resolving.key(&both).await, "ASIA1");
    which.store(1, Ordering::Relaxed);
    wall.set(2 * 3600);
    for _ in 0..3 {
        assert_eq!(resolving.key(&both).await, "ASIA5");
    }
    // Back again: the first has credentials once more, and is asked for them.
    which.store(0, Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(resolving.key(&both).await, "ASIA2");
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_somebody_changed_are_not_replaced_by_ours() {
    let (source, wall) = source(HOUR);
    let resolving = Resolving::new(&wall);
    let end = wall_now(&wall) + 30 * SECOND;
    let shortened = resolver(Around(provider(&source), move |mut ours: Credentials| {
        *ours.expiry_mut() = Some(end);
        ours
    }));
    for _ in 0..10 {
        assert_eq!(resolving.identity(&shortened).await.unwrap().expiration(), Some(end));
    }
    assert_eq!(resolving.known(), 0);
}

fn wall_now(wall: &Wall) -> SystemTime {
    aws_smithy_async::time::TimeSource::now(wall)
}

#[tokio::test(start_paused = true)]
async fn where_ours_has_ended_a_chain_goes_on_to_its_next() {
    #[derive(Debug)]
    struct OursOrFixed(PodIdentityCredentialsProvider);
    impl ProvideCredentials for OursOrFixed {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                Ok(self.0.credentials().await.unwrap_or_else(|_| fixed()))
            })
        }
    }
    let (source, wall) = source(HOUR);
    let (resolving, chain) = (Resolving::new(&wall), resolver(OursOrFixed(provider(&source))));
    assert_eq!(resolving.key(&chain).await, "ASIA1");
    assert_eq!(resolving.key(&chain).await, "ASIA1");
    source.answers(Answer::Failure(crate::scripted::away));
    wall.set(2 * 3600);
    assert_eq!(resolving.key(&chain).await, "AKIAFIXED");
    assert_eq!(resolving.key(&chain).await, "AKIAFIXED");
}

#[tokio::test(start_paused = true)]
async fn identities_that_are_no_credentials_pass_and_the_sdk_keeps_them() {
    #[derive(Debug, Default)]
    struct Tokens(AtomicUsize);
    impl ResolveIdentity for Tokens {
        fn resolve_identity<'a>(&'a self, _: &'a RuntimeComponents, _: &'a ConfigBag) -> IdentityFuture<'a> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            IdentityFuture::ready(Ok(Identity::new(format!("token {number}"), None)))
        }
    }
    let (source, wall) = source(HOUR);
    let (resolving, ours) = (Resolving::new(&wall), resolver(provider(&source)));
    let tokens = SharedIdentityResolver::new(Tokens::default());
    let nobody = SharedIdentityResolver::new(NoAuthIdentityResolver::new());
    for _ in 0..10 {
        assert_eq!(resolving.key(&ours).await, "ASIA1");
        assert_eq!(resolving.identity(&tokens).await.unwrap().data::<String>().unwrap(), "token 0");
        assert!(resolving.identity(&nobody).await.unwrap().data::<Credentials>().is_none());
    }
    assert_eq!(resolving.known(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_partitions_than_are_kept_are_served_too() {
    let (source, wall) = source(HOUR);
    let (resolving, provider) = (Resolving::new(&wall), provider(&source));
    let resolvers: Vec<_> = (0..3 * MOST_PARTITIONS).map(|_| resolver(provider.clone())).collect();
    for _ in 0..2 {
        for resolver in &resolvers {
            assert_eq!(resolving.key(resolver).await, "ASIA1");
        }
        assert_eq!(resolving.known(), MOST_PARTITIONS);
    }
    assert_eq!(source.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_whose_credentials_a_cache_knows_ends_all_the_same() {
    let (source, wall) = source(HOUR);
    let resolving = Resolving::new(&wall);
    let gone = resolver(provider(&source));
    assert_eq!(resolving.key(&gone).await, "ASIA1");
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
    drop(gone);
    settle().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    tokio::time::sleep(10 * HOUR).await;
    assert_eq!((source.calls(), resolving.known()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_resolver_beyond_those_that_are_known_has_new_credentials_at_once_too() {
    let (source, wall) = source(HOUR);
    let (resolving, provider) = (Resolving::new(&wall), provider(&source));
    for _ in 0..MOST_PARTITIONS {
        resolving.key(&resolver(provider.clone())).await;
    }
    let beyond = resolver(provider.clone());
    assert_eq!(resolving.key(&beyond).await, "ASIA1");
    wall.set(50 * 60);
    given(&provider).await;
    settle().await;
    assert_eq!(resolving.key(&beyond).await, "ASIA2");
}

#[tokio::test(start_paused = true)]
async fn nothing_that_prints_holds_a_secret() {
    let (source, wall) = source(HOUR);
    let (resolving, provider) = (Resolving::new(&wall), provider(&source));
    let resolver = resolver(provider.clone());
    resolving.identity(&resolver).await.unwrap();
    let identity = resolving.identity(&resolver).await.unwrap();
    let credentials = provider.credentials().await.unwrap();
    for printed in [
        format!("{identity:?}"),
        format!("{credentials:?}"),
        format!("{:?}", resolving.cache),
        format!("{provider:#?}"),
    ] {
        assert!(printed.contains("ASIA1"), "{printed}");
        for secret in [credentials.secret_access_key(), credentials.session_token().unwrap()] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_begin_together_are_one_fetch() {
    let (source, wall) = source(HOUR);
    source.takes(Duration::from_secs(3));
    let (resolving, resolver) = (Arc::new(Resolving::new(&wall)), resolver(provider(&source)));
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
