//! Where fresh credentials come from, for each method.

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

use crate::container::ContainerCredentials;
use crate::environment::Environment;
use crate::error::Error;
use crate::method::Chosen;
use crate::transport::Transport;
#[cfg(feature = "irsa")]
use crate::web_identity::WebIdentityCredentials;

/// The source of a method that the environment is set up for. Each of its calls ends within the transport's deadline.
pub(crate) fn of(
    chosen: Chosen,
    environment: &Environment,
    transport: Transport,
) -> SharedCredentialsProvider {
    match chosen {
        Chosen::Other((_, provider)) => {
            SharedCredentialsProvider::new(WithinDeadline { provider, transport })
        }
        #[cfg(feature = "irsa")]
        Chosen::WebIdentity => {
            SharedCredentialsProvider::new(WebIdentityCredentials::new(environment, transport))
        }
        #[cfg(not(feature = "irsa"))]
        Chosen::WebIdentity => unavailable(Error::FeatureMissing("irsa")),
        Chosen::PodIdentity => {
            SharedCredentialsProvider::new(ContainerCredentials::new(environment, transport))
        }
    }
}

/// A source that only says why there is none.
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

/// Somebody else's provider: it may never answer. It may need no runtime either, and where there are no timers it is asked
/// without a deadline.
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
            let call = timer.within(*deadline, self.provider.provide_credentials());
            call.await.unwrap_or_else(|_| Err(CredentialsError::from(Error::TimedOut(*deadline))))
        })
    }
}
