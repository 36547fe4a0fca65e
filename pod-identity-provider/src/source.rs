//! The source of credentials for each method.

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

use crate::container::ContainerCredentials;
use crate::environment::Environment;
use crate::error::Error;
use crate::method::Method;
use crate::transport::Transport;
#[cfg(feature = "irsa")]
use crate::web_identity::WebIdentityCredentials;

/// Returns the source of a method that the environment configures. Each of its calls ends within the transport's deadline.
pub(crate) fn of_method(
    method: Method,
    environment: &Environment,
    transport: Transport,
) -> SharedCredentialsProvider {
    match method {
        #[cfg(feature = "irsa")]
        Method::WebIdentity => {
            SharedCredentialsProvider::new(WebIdentityCredentials::new(environment, transport))
        }
        #[cfg(not(feature = "irsa"))]
        Method::WebIdentity => unavailable(Error::feature_missing("irsa")),
        Method::PodIdentity => {
            SharedCredentialsProvider::new(ContainerCredentials::new(environment, transport))
        }
    }
}

/// Returns a source that calls the builder's fallback provider.
pub(crate) fn of_provider(
    provider: SharedCredentialsProvider,
    transport: Transport,
) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(WithinDeadline { provider, transport })
}

/// Returns a source that always fails.
pub(crate) fn unavailable(error: Error) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Unavailable(error))
}

#[derive(Debug)]
struct Unavailable(Error);

impl ProvideCredentials for Unavailable {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(self.0.clone().into()))
    }
}

/// The program's own provider, with a deadline because it may hang. Without usable timers there is no deadline, because
/// the provider may need no runtime.
#[derive(Debug)]
struct WithinDeadline {
    provider: SharedCredentialsProvider,
    transport: Transport,
}

impl ProvideCredentials for WithinDeadline {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let Transport { timer, deadline, .. } = &self.transport;
        future::ProvideCredentials::new(async move {
            let call = timer.timeout(*deadline, self.provider.provide_credentials());
            call.await.unwrap_or_else(|_| Err(Error::timed_out(*deadline).into()))
        })
    }
}
