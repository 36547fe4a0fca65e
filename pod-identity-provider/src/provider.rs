//! The provider and its builder.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::client::dns::{ResolveDns, SharedDnsResolver};
use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient};
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_smithy_runtime_api::shared::IntoShared as _;

use crate::cell::{CredentialCell, Refresh};
use crate::clock::Clock;
use crate::dns::SystemResolver;
use crate::environment::{self as env, Environment};
use crate::error::Error;
use crate::identity_cache::ProviderIdentityCache;
use crate::method::{self, Method};
use crate::source;
use crate::timer::Timer;
use crate::transport::Transport;

/// The time from renewal to expiry, as botocore's advisory refresh (900 s). This project's agent renews halfway through a
/// lifetime. Sessions of 45 minutes or more are therefore already renewed on the node by then.
const DEFAULT_REFRESH_AHEAD: Duration = Duration::from_secs(15 * 60);
/// The time limit of a fetch, including retries.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// The time limit of one attempt. It is longer than the agent's limit for a call of EKS Auth, which is 4.5 s.
const DEFAULT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// A provider of AWS credentials for the pod that this program runs in.
///
/// Clones share the cached credentials and each fetch. The [crate documentation](crate) shows its use.
///
/// ```
/// use pod_identity_provider::PodIdentityCredentialsProvider;
///
/// let provider = PodIdentityCredentialsProvider::builder()
///     .deadline(std::time::Duration::from_secs(3))
///     .build();
/// let config = aws_config::SdkConfig::builder()
///     .identity_cache(provider.identity_cache())
///     .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(provider))
///     .build();
/// # drop(config);
/// ```
#[derive(Clone)]
pub struct PodIdentityCredentialsProvider {
    cell: Arc<CredentialCell>,
    source: SelectedSource,
    /// A number that is unique in the process, so that the `Debug` texts of providers differ.
    number: u64,
}

/// The source of a provider's credentials.
#[derive(Debug, Clone, Copy)]
enum SelectedSource {
    Method(Method),
    Fallback(&'static str),
    None,
}

/// A builder of a [`PodIdentityCredentialsProvider`].
///
/// ```
/// use std::time::Duration;
/// use pod_identity_provider::{Method, PodIdentityCredentialsProvider};
///
/// let provider = PodIdentityCredentialsProvider::builder()
///     .methods([Method::PodIdentity])
///     .attempt_timeout(Duration::from_secs(1))
///     .deadline(Duration::from_secs(3))
///     .build();
/// # drop(provider);
/// ```
#[derive(Debug)]
#[must_use]
pub struct PodIdentityCredentialsProviderBuilder {
    environment: Option<Environment>,
    methods: Vec<Method>,
    fallback: Option<(&'static str, SharedCredentialsProvider)>,
    http_client: Option<SharedHttpClient>,
    dns: SharedDnsResolver,
    timer: Timer,
    clock: Clock,
    refresh: Refresh,
    refresh_ahead: Duration,
    deadline: Duration,
    attempt_timeout: Duration,
}

impl PodIdentityCredentialsProvider {
    /// Returns a builder with the settings of [`default`](crate::default): the environment of this process, and EKS Pod
    /// Identity before IRSA.
    pub fn builder() -> PodIdentityCredentialsProviderBuilder {
        PodIdentityCredentialsProviderBuilder {
            environment: None,
            methods: vec![Method::PodIdentity, Method::WebIdentity],
            fallback: None,
            http_client: None,
            dns: SharedDnsResolver::new(SystemResolver),
            timer: Timer::tokio(),
            clock: Clock::System,
            refresh: Refresh::default(),
            refresh_ahead: DEFAULT_REFRESH_AHEAD,
            deadline: DEFAULT_DEADLINE,
            attempt_timeout: DEFAULT_ATTEMPT_TIMEOUT,
        }
    }

    /// Returns the cached credentials. Fetches them if the cache is empty; concurrent requests share one fetch.
    ///
    /// A program without an SDK calls this for each use. A program with an SDK calls it once at its start, so that a
    /// configuration error ends the program with a cause and a fix.
    ///
    /// # Errors
    /// [`Error`], with the cause and the fix. It is returned within the builder's
    /// [`deadline`](PodIdentityCredentialsProviderBuilder::deadline).
    pub async fn credentials(&self) -> Result<Credentials, Error> {
        self.cell.credentials().await
    }

    /// Returns an identity cache for clients whose credentials provider is this provider.
    ///
    /// A client reads its identity cache on each request. This cache serves the provider's credentials without a lock, and
    /// the provider renews them ahead of expiry. The SDK's own cache takes locks, and fetches new credentials only seconds
    /// before the old ones expire.
    ///
    /// Use one cache for each client configuration, with a clone of the provider. For any other credentials provider this
    /// cache calls the SDK's own cache. Examples are a chain that contains this provider, a wrapper around it, a
    /// `SharedCredentialsProvider` that the program made of it, and a provider that is set for one operation.
    ///
    /// The cache recognises the provider by its `Debug` text, because the SDK exposes nothing else. The `Debug` text of a
    /// wrapper must therefore differ from the text of the provider inside it.
    pub fn identity_cache(&self) -> SharedIdentityCache {
        SharedIdentityCache::new(self.new_identity_cache())
    }

    pub(crate) fn new_identity_cache(&self) -> ProviderIdentityCache {
        ProviderIdentityCache::new(self.cell.clone(), self.clone())
    }

    /// Returns the method in use. Returns `None` if the environment configures no method. Requests then call the provider
    /// of [`or_else`](PodIdentityCredentialsProviderBuilder::or_else), or fail if there is none.
    pub fn method(&self) -> Option<Method> {
        match self.source {
            SelectedSource::Method(method) => Some(method),
            SelectedSource::Fallback(_) | SelectedSource::None => None,
        }
    }

    /// Returns the name of the provider of [`or_else`](PodIdentityCredentialsProviderBuilder::or_else), if requests call
    /// it.
    pub fn fallback(&self) -> Option<&'static str> {
        match self.source {
            SelectedSource::Fallback(name) => Some(name),
            SelectedSource::Method(_) | SelectedSource::None => None,
        }
    }
}

/// Prints the number and the source, and no credentials.
impl fmt::Debug for PodIdentityCredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut provider = f.debug_struct("PodIdentityCredentialsProvider");
        provider.field("number", &self.number).field("source", &self.source).finish()
    }
}

impl ProvideCredentials for PodIdentityCredentialsProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { Ok(self.credentials().await?) })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.cell.valid_credentials()
    }
}

impl PodIdentityCredentialsProviderBuilder {
    /// Sets the environment variables. The default is the environment of the process.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Sets the methods in order of preference. The provider uses the first method whose variables are set. The default is
    /// EKS Pod Identity before IRSA, because a pod with both is being migrated to EKS Pod Identity.
    ///
    /// With an empty list and no provider of [`or_else`](Self::or_else), requests fail with
    /// [`InvalidConfiguration`](Error::InvalidConfiguration).
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Sets a provider to call if the environment configures none of the methods, for example on a developer's machine.
    /// `name` is its name in the log. Its credentials are cached and renewed like those of the methods.
    ///
    /// **Warning:** a provider of the node's role, such as `aws_config::imds::credentials::ImdsCredentialsProvider`, also
    /// gives that role to pods that the webhook has not injected. Without this call, no pod gets the node's role.
    pub fn or_else(mut self, name: &'static str, provider: impl ProvideCredentials + 'static) -> Self {
        self.fallback = Some((name, SharedCredentialsProvider::new(provider)));
        self
    }

    /// Sets the HTTP client, as in an SDK's configuration. The default is the SDK's own client. It calls the agent without
    /// a proxy, because the agent is on this node. It calls STS through the proxy of the
    /// [`environment`](Self::environment): `HTTPS_PROXY`, `HTTP_PROXY` for a custom URL over http, `ALL_PROXY` and
    /// `NO_PROXY`, in upper or lower case.
    pub fn http_client(mut self, client: impl HttpClient + 'static) -> Self {
        self.http_client = Some(client.into_shared());
        self
    }

    /// Sets the DNS resolver for the name in the credentials URI. The default is the system's resolver. For an http URI,
    /// each attempt resolves the name and fails unless all its addresses are allowed. The resolver is not used for STS, nor
    /// for https with a client of [`http_client`](Self::http_client): these clients resolve names themselves.
    pub fn dns(mut self, resolver: impl ResolveDns + 'static) -> Self {
        self.dns = resolver.into_shared();
        self
    }

    /// Sets how credentials are renewed. The default is a background task.
    pub fn refresh(mut self, refresh: Refresh) -> Self {
        self.refresh = refresh;
        self
    }

    /// Sets the time from renewal to expiry: 15 minutes by default. Credentials with a lifetime shorter than twice this
    /// time are renewed halfway through it. A random delay of up to a fifth of the time is added.
    pub fn refresh_ahead(mut self, refresh_ahead: Duration) -> Self {
        self.refresh_ahead = refresh_ahead;
        self
    }

    /// Sets the time limit of a fetch, including retries: 10 s by default.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the time limit of one attempt of a fetch: 5 s by default.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// Sets the sleep implementation. It must work wherever requests are made, including outside a runtime. The default is
    /// tokio's timers, which panic in a runtime that was built without `enable_time`.
    pub fn sleep_impl(mut self, sleep: impl AsyncSleep + 'static) -> Self {
        self.timer = Timer::custom(SharedAsyncSleep::new(sleep));
        self
    }

    /// Sets the wall clock. The default is the system's clock.
    pub fn time_source(mut self, time: impl TimeSource + 'static) -> Self {
        self.clock = Clock::custom(SharedTimeSource::new(time));
        self
    }

    /// Returns the provider. The first request fetches the credentials. It also reports wrong and missing variables, so
    /// that a chain of providers can continue with its next provider.
    pub fn build(self) -> PodIdentityCredentialsProvider {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let environment = self.environment.unwrap_or_else(Environment::of_process);
        let transport = Transport {
            http_client: self.http_client,
            dns: self.dns,
            timer: self.timer.clone(),
            clock: self.clock.clone(),
            attempt_timeout: self.attempt_timeout,
            deadline: self.deadline,
        };
        let (selected, source) = match (method::choose(&self.methods, &environment), self.fallback) {
            (Ok(method), _) => {
                tracing::info!(%method, "credential source selected");
                warn_about_ignored_variables(&environment);
                (SelectedSource::Method(method), source::of_method(method, &environment, transport))
            }
            (Err(_), Some((name, provider))) => {
                tracing::info!(provider = name, "credential source selected");
                (SelectedSource::Fallback(name), source::of_provider(provider, transport))
            }
            (Err(error), None) => {
                tracing::warn!(%error, "no credential source found");
                warn_about_ignored_variables(&environment);
                (SelectedSource::None, source::unavailable(error))
            }
        };
        PodIdentityCredentialsProvider {
            cell: CredentialCell::new(
                source,
                self.clock,
                self.timer,
                self.refresh,
                self.refresh_ahead,
                self.deadline,
            ),
            source: selected,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// Warns about variables that this provider ignores. The SDK's default chain would use their credentials (aws-config,
/// `default_provider::credentials`: static keys and profiles come before web identity and container credentials).
fn warn_about_ignored_variables(environment: &Environment) {
    for ignored in [env::ACCESS_KEY_ID, env::PROFILE] {
        if environment.has(ignored) {
            tracing::warn!(
                ignored,
                "variable ignored: the AWS SDK's default chain would use its credentials"
            );
        }
    }
}
