//! The provider, and how it is made.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_runtime_api::client::dns::{ResolveDns, SharedDnsResolver};
use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient};
use aws_smithy_runtime_api::shared::IntoShared as _;

use crate::cell::{Cell, Refresh};
use crate::clock::Clock;
use crate::dns::SystemResolver;
use crate::environment::Environment;
use crate::method::{self, Fallback, Method};
use crate::source;
use crate::timer::Timer;
use crate::transport::Transport;

/// How long before their end credentials are renewed: what botocore calls its advisory refresh (900 s). This project's
/// agent renews at half of a life, so it has some that hold longer, where sessions last for 45 minutes or more.
const AHEAD: Duration = Duration::from_secs(15 * 60);
/// How long a fetch may take in all, its repetitions included.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long one attempt of it may take. The agent holds a request for up to 4.5 s while it asks EKS Auth.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Credentials of the pod that this program runs in.
///
/// Clones are one provider: they share the credentials and each fetch. See the [front page](crate) for how it is used.
#[derive(Debug, Clone)]
pub struct PodIdentityCredentialsProvider {
    cell: Arc<Cell>,
    method: Option<Method>,
}

/// Makes a [`PodIdentityCredentialsProvider`].
#[derive(Debug)]
#[must_use]
pub struct PodIdentityCredentialsProviderBuilder {
    environment: Option<Environment>,
    methods: Vec<Method>,
    fallback: Option<Fallback>,
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
    /// A builder, which without further calls makes what [`default`](crate::default) is: EKS Pod Identity, else IRSA, by
    /// the environment of this process.
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

    /// The credentials: those that are held, or else those that a fetch brings, which all who ask meanwhile wait for.
    ///
    /// This is for programs without an SDK; an SDK's client asks by itself.
    ///
    /// # Errors
    /// [`CredentialsError`], with an [`Error`](crate::Error) as its source that names the cause and what to do.
    pub async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        self.cell.credentials().await
    }

    /// How the credentials are got; none where the environment is set up for none of the methods, and each request is
    /// refused.
    pub fn method(&self) -> Option<Method> {
        self.method
    }
}

impl ProvideCredentials for PodIdentityCredentialsProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.cell.credentials_at_hand()
    }
}

impl PodIdentityCredentialsProviderBuilder {
    /// Reads these variables and not the process's own.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Tries these methods and no others, in that order: the first one wins that the environment is set up for. By
    /// default EKS Pod Identity is before IRSA: a pod that has both is on its way from the older to the newer. A list of
    /// none is the first request's [`NoMethod`](crate::Error::NoMethod), unless there is a provider to
    /// [`or_else`](Self::or_else) ask.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Asks `provider` where the environment is set up for none of the methods, as on a developer's machine. One that
    /// gives the node's role, such as `aws_config::imds::credentials::ImdsCredentialsProvider`, gives it to a pod that
    /// was not injected too: without this call that never happens.
    ///
    /// Its credentials are renewed ahead and shared like the others. `name` is what the log calls it.
    pub fn or_else(mut self, name: &'static str, provider: impl ProvideCredentials + 'static) -> Self {
        self.fallback = Some((name, SharedCredentialsProvider::new(provider)));
        self
    }

    /// Sends requests by this client, as an SDK's configuration takes it. By default it is the SDK's own, without a
    /// proxy: the agent is on this node. STS is asked by way of the proxy that the
    /// [`environment`](Self::environment) says (`HTTPS_PROXY`, `HTTP_PROXY` for a URL of one's own over http, `ALL_PROXY`,
    /// `NO_PROXY`, in capitals or small letters).
    pub fn http_client(mut self, client: impl HttpClient + 'static) -> Self {
        self.http_client = Some(client.into_shared());
        self
    }

    /// Resolves the name in the credentials URI by this, and not by the system's resolver. Over http each fetch
    /// resolves anew, and asks only if all addresses are among those that may be asked. A client of
    /// [`http_client`](Self::http_client) resolves for https by itself, and the one that asks STS does so always.
    pub fn dns(mut self, resolver: impl ResolveDns + 'static) -> Self {
        self.dns = resolver.into_shared();
        self
    }

    /// Who fetches the credentials ahead of their end.
    pub fn refresh(mut self, refresh: Refresh) -> Self {
        self.refresh = refresh;
        self
    }

    /// Renews credentials when so much of their life is left, and those with a life of less than twice that at its
    /// half; up to a fifth of it later, by chance. 15 minutes by default.
    pub fn refresh_ahead(mut self, ahead: Duration) -> Self {
        self.ahead = ahead;
        self
    }

    /// How long a fetch may take in all, with its repetitions: 10 s by default.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long one attempt of a fetch may take: 5 s by default.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt = timeout;
        self
    }

    /// Sleeps by this, and not by tokio's timers, which panic in a runtime without them (`enable_time`). It has to work
    /// wherever requests are made: outside a tokio runtime too, if they are.
    pub fn sleep_impl(mut self, sleep: impl AsyncSleep + 'static) -> Self {
        self.timer = Timer::given(SharedAsyncSleep::new(sleep));
        self
    }

    /// Reads the time from this source, and not from the system's clock.
    pub fn time_source(mut self, time: impl TimeSource + 'static) -> Self {
        self.clock = Clock::given(SharedTimeSource::new(time));
        self
    }

    /// The provider. Nothing is fetched yet, and nothing refused: what is missing or wrong is the first request's error,
    /// so that a chain of providers can go on to the next.
    pub fn build(self) -> PodIdentityCredentialsProvider {
        let Self {
            environment,
            methods,
            fallback,
            http_client,
            dns,
            timer,
            clock,
            refresh,
            ahead,
            deadline,
            ..
        } = self;
        let environment = environment.unwrap_or_else(Environment::of_process);
        let transport = Transport {
            http_client,
            dns,
            timer: timer.clone(),
            clock: clock.clone(),
            attempt: self.attempt,
            deadline,
        };
        let (method, source) = match method::choose(&methods, &environment, fallback) {
            Ok(chosen) => {
                let method = chosen.method();
                tracing::info!(%method, "credentials of this pod");
                (Some(method), source::of(chosen, &environment, transport))
            }
            Err(error) => {
                tracing::warn!(%error, "no credentials for this pod");
                (None, source::unavailable(error))
            }
        };
        PodIdentityCredentialsProvider {
            cell: Cell::new(source, clock, timer, refresh, ahead, deadline),
            method,
        }
    }
}
