//! The credentials of a container: an HTTP request with the pod's token to the agent on its node.

mod attempts;
mod authorization;
mod endpoint;
mod member;
mod refusal;
mod request;
mod response;

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, future};

use crate::environment::Environment;
use crate::error::{EndpointError, Error, Failure};
use crate::transport::Transport;

use authorization::{Authorization, Token};
use endpoint::Endpoint;
use request::Client;

/// Asks the endpoint that the environment names.
#[derive(Debug)]
pub(crate) struct ContainerCredentials {
    endpoint: Result<Endpoint, Error>,
    authorization: Authorization,
    client: Client,
    transport: Transport,
}

/// Why an attempt brought no credentials.
#[derive(Debug)]
enum Fault {
    /// No request went out.
    Error(Error),
    Failure {
        failure: Failure,
        /// When to ask again, where the endpoint says.
        retry_after: Option<Duration>,
    },
}

impl Fault {
    /// Of an error before the answer. One of this crate's own is the resolver's: there is no runtime.
    fn of(error: &(dyn StdError + 'static)) -> Self {
        match Error::of(error) {
            Some(own) => own.clone().into(),
            None => Failure::of_request(error).into(),
        }
    }

    /// Whether another attempt may help.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Error(error) => error.is_retryable(),
            Self::Failure { failure, .. } => failure.is_retryable(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Error(_) => None,
            Self::Failure { retry_after, .. } => *retry_after,
        }
    }

    /// The same, once the time that the endpoint asked for is over.
    fn waited_for(self) -> Self {
        match self {
            Self::Failure { failure, .. } => failure.into(),
            error @ Self::Error(_) => error,
        }
    }

    /// For the log.
    fn cause(&self) -> String {
        match self {
            Self::Error(error) => error.to_string(),
            Self::Failure { failure, .. } => failure.cause(),
        }
    }

    fn into_error(self, endpoint: &Endpoint, attempts: u32, took: Duration) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Failure { failure, retry_after } => Error::Endpoint(EndpointError {
                endpoint: endpoint.origin(),
                failure,
                retry_after,
                attempts,
                took,
            }),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Failure { failure, retry_after: None }
    }
}

impl ContainerCredentials {
    pub(crate) fn new(environment: &Environment, transport: Transport) -> Self {
        Self {
            endpoint: Endpoint::of(environment),
            authorization: Authorization::of(environment),
            client: Client::new(&transport),
            transport,
        }
    }

    /// Asks once. The token is read for each attempt: kubelet may have written a new one since.
    async fn attempt(&self, endpoint: &Endpoint) -> Result<Credentials, Fault> {
        let token = self.authorization.token()?;
        let mut unreachable = None;
        for place in endpoint.places(&self.transport.dns).await? {
            match self.ask(endpoint, place, token.as_ref()).await {
                Err(Fault::Failure { failure, .. }) if failure.is_of_address() => unreachable = Some(failure),
                answer => return answer,
            }
        }
        Err(unreachable.unwrap_or(Failure::Refused).into())
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        place: endpoint::Place,
        token: Option<&Token>,
    ) -> Result<Credentials, Fault> {
        let response = self.client.send(endpoint, place, token).await?;
        response::read(response, token).await
    }
}

impl ProvideCredentials for ContainerCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let endpoint = self.endpoint.as_ref().map_err(Clone::clone)?;
            Ok(self.within_deadline(endpoint).await?)
        })
    }
}
