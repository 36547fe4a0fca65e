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

/// The time before expiry at which credentials are due for renewal: botocore's advisory refresh (900 s). This project's
/// agent renews at half of a life, so it has longer ones by then, where sessions last 45 minutes or more.
const AHEAD: Duration = Duration::from_secs(15 * 60);
/// The time limit of a fetch with its retries.
const DEADLINE: Duration = Duration::from_secs(10);
/// The time limit of one attempt. The agent holds a request for up to 4.5 s while it calls EKS Auth.
const ATTEMPT: Duration = Duration::from_secs(5);

/// A provider of the credentials of the pod that this program runs in.
///
/// Clones are the same provider: they share the credentials and each fetch. The [front page](crate) shows its use.
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
    chosen: Chosen,
    /// Different for each provider of a process, so that no two print the same text.
    number: u64,
}

/// The source of a provider's credentials.
#[derive(Debug, Clone, Copy)]
enum Chosen {
    Method(Method),
    Fallback(&'static str),
    Nothing,
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
    ahead: Duration,
    deadline: Duration,
    attempt: Duration,
}

impl PodIdentityCredentialsProvider {
    /// Returns a builder with the settings of [`default`](crate::default): EKS Pod Identity, else IRSA, by the environment
    /// of this process.
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
            ahead: AHEAD,
            deadline: DEADLINE,
            attempt: ATTEMPT,
        }
    }

    /// Returns the credentials: the cached ones, or those of a fetch that all concurrent requests share.
    ///
    /// A program without an SDK calls this for each use. A program with an SDK calls it once at its start, so that a fault
    /// of its set-up ends it with a cause and a fix; its clients then find the credentials cached.
    ///
    /// # Errors
    /// [`Error`], within the builder's [`deadline`](PodIdentityCredentialsProviderBuilder::deadline). It prints the cause
    /// and the fix.
    pub async fn credentials(&self) -> Result<Credentials, Error> {
        self.cell.credentials().await
    }

    /// Returns an identity cache for clients whose credentials provider is this provider.
    ///
    /// A client asks its identity cache at each request. This cache serves the provider's credentials without a lock, and
    /// the provider renews them ahead of their expiry. The SDK's own cache takes locks, and looks for new credentials
    /// seconds before the old ones expire.
    ///
    /// Every other resolver goes to the SDK's own cache: a chain that contains this provider, a wrapper around it, and a
    /// provider that one operation is given. So does a second configuration with the same cache, and a provider inside a
    /// `SharedCredentialsProvider` of the program. Give each configuration a clone of the provider and a cache of its own.
    ///
    /// The cache recognises the provider by its `Debug` text, since the SDK shows nothing else of it. A wrapper must not
    /// print the text of the provider inside it as its own.
    pub fn identity_cache(&self) -> SharedIdentityCache {
        SharedIdentityCache::new(self.new_identity_cache())
    }

    pub(crate) fn new_identity_cache(&self) -> ProviderIdentityCache {
        ProviderIdentityCache::new(self.cell.clone(), self.clone())
    }

    /// Returns the method by which the credentials are fetched. `None` where the environment is set up for none, so that
    /// the provider of [`or_else`](PodIdentityCredentialsProviderBuilder::or_else) is called, or each request fails.
    pub fn method(&self) -> Option<Method> {
        match self.chosen {
            Chosen::Method(method) => Some(method),
            Chosen::Fallback(_) | Chosen::Nothing => None,
        }
    }

    /// Returns the name of the provider given to [`or_else`](PodIdentityCredentialsProviderBuilder::or_else), if that is
    /// the source of the credentials.
    pub fn fallback(&self) -> Option<&'static str> {
        match self.chosen {
            Chosen::Fallback(name) => Some(name),
            Chosen::Method(_) | Chosen::Nothing => None,
        }
    }
}

/// Prints no credentials, and a number that tells the providers of a process apart.
impl fmt::Debug for PodIdentityCredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut provider = f.debug_struct("PodIdentityCredentialsProvider");
        provider.field("number", &self.number).field("source", &self.chosen).finish()
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
    /// Sets the variables to read instead of the process's own.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Sets the methods in their order. The first one wins that the environment is set up for. By default EKS Pod Identity
    /// is before IRSA: a pod with both is on its way from the older to the newer.
    ///
    /// An empty list is an [`InvalidConfiguration`](Error::InvalidConfiguration) of the first request, unless there is a
    /// provider of [`or_else`](Self::or_else).
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Sets a provider to call where the environment is set up for none of the methods, as on a developer's machine.
    /// `name` is its name in the log. Its credentials are renewed ahead and shared like others.
    ///
    /// A provider of the node's role, such as `aws_config::imds::credentials::ImdsCredentialsProvider`, gives that role
    /// also to a pod that the webhook missed. Without this call that never happens.
    pub fn or_else(mut self, name: &'static str, provider: impl ProvideCredentials + 'static) -> Self {
        self.fallback = Some((name, SharedCredentialsProvider::new(provider)));
        self
    }

    /// Sets the HTTP client, as in an SDK's configuration. The default is the SDK's own client. It calls the agent without
    /// a proxy, since the agent is on this node, and STS through the proxy of the [`environment`](Self::environment)
    /// (`HTTPS_PROXY`, `HTTP_PROXY` for a custom URL over http, `ALL_PROXY`, `NO_PROXY`, in capitals or small letters).
    pub fn http_client(mut self, client: impl HttpClient + 'static) -> Self {
        self.http_client = Some(client.into_shared());
        self
    }

    /// Sets the resolver of the name in the credentials URI. The default is the system's. Over http each fetch resolves the
    /// name and is refused unless all its addresses are allowed. A client of [`http_client`](Self::http_client) resolves
    /// names for https itself, and the client of STS always does.
    pub fn dns(mut self, resolver: impl ResolveDns + 'static) -> Self {
        self.dns = resolver.into_shared();
        self
    }

    /// Sets the way in which credentials are renewed. The default is a background task.
    pub fn refresh(mut self, refresh: Refresh) -> Self {
        self.refresh = refresh;
        self
    }

    /// Sets the remaining life at which credentials are renewed: 15 minutes by default. A life shorter than twice that is
    /// renewed at its half. The renewal starts later by a random part of up to a fifth of that time.
    pub fn refresh_ahead(mut self, ahead: Duration) -> Self {
        self.ahead = ahead;
        self
    }

    /// Sets the time limit of a fetch with its retries: 10 s by default.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the time limit of one attempt of a fetch: 5 s by default.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt = timeout;
        self
    }

    /// Sets the sleep implementation. The default is tokio's timers, which panic in a runtime without them
    /// (`enable_time`). The given one must work wherever requests are made, also outside a runtime.
    pub fn sleep_impl(mut self, sleep: impl AsyncSleep + 'static) -> Self {
        self.timer = Timer::given(SharedAsyncSleep::new(sleep));
        self
    }

    /// Sets the source of the time. The default is the system's clock.
    pub fn time_source(mut self, time: impl TimeSource + 'static) -> Self {
        self.clock = Clock::given(SharedTimeSource::new(time));
        self
    }

    /// Returns the provider. It fetches nothing yet. A wrong or missing variable is the error of the first request, so that
    /// a chain of providers can go on to the next.
    pub fn build(self) -> PodIdentityCredentialsProvider {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let environment = self.environment.unwrap_or_else(Environment::of_process);
        let transport = Transport {
            http_client: self.http_client,
            dns: self.dns,
            timer: self.timer.clone(),
            clock: self.clock.clone(),
            attempt: self.attempt,
            deadline: self.deadline,
        };
        let (chosen, source) = match (method::choose(&self.methods, &environment), self.fallback) {
            (Ok(method), _) => {
                tracing::info!(%method, "source of credentials chosen");
                warn_of_ignored(&environment);
                (Chosen::Method(method), source::of_method(method, &environment, transport))
            }
            (Err(_), Some((name, provider))) => {
                tracing::info!(provider = name, "source of credentials chosen");
                (Chosen::Fallback(name), source::of_provider(provider, transport))
            }
            (Err(error), None) => {
                tracing::warn!(%error, "no source of credentials");
                warn_of_ignored(&environment);
                (Chosen::Nothing, source::unavailable(error))
            }
        };
        PodIdentityCredentialsProvider {
            cell: CredentialCell::new(
                source,
                self.clock,
                self.timer,
                self.refresh,
                self.ahead,
                self.deadline,
            ),
            chosen,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// Warns of variables with which the SDK's default chain would use other credentials (aws-config,
/// `default_provider::credentials`: static keys and profiles are before web identity and container credentials).
fn warn_of_ignored(environment: &Environment) {
    for ignored in [env::ACCESS_KEY_ID, env::PROFILE] {
        if environment.has(ignored) {
            tracing::warn!(
                ignored,
                "variable ignored: the AWS SDK's default chain would use its credentials"
            );
        }
    }
}
