//! Container credentials: an HTTP request with the pod's token to the agent on the node.

mod attempts;
mod authorization;
mod endpoint;
mod fault;
mod json_field;
mod refusal;
mod request;
mod response;
#[cfg(test)]
mod tests;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, future};

use crate::environment::{self as env, Environment};
use crate::error::{Error, Failure};
use crate::transport::Transport;

use authorization::{Authorization, Token};
use endpoint::{Endpoint, Place};
use fault::Fault;
use request::Client;

/// What to do where an agent of EKS Pod Identity is to be called without a token.
const NO_TOKEN: &str = "Create the pod again with the webhook running, or set the variable to the path of the pod's token: \
                        the agent of EKS Pod Identity refuses requests without one";

/// Calls the endpoint that the environment names.
#[derive(Debug)]
pub(crate) struct ContainerCredentials {
    endpoint: Result<Endpoint, Error>,
    authorization: Authorization,
    client: Client,
    transport: Transport,
}

impl ContainerCredentials {
    /// An environment that cannot be used is the error of the first request.
    pub(crate) fn new(environment: &Environment, transport: Transport) -> Self {
        let authorization = Authorization::of(environment);
        let endpoint = Endpoint::of(environment).and_then(|endpoint| match authorization {
            Authorization::None if endpoint.is_eks_agent() => {
                let reason = format!("is not set, nor is {}", env::TOKEN);
                Err(Error::unusable(env::TOKEN_FILE, &reason, NO_TOKEN))
            }
            _ => Ok(endpoint),
        });
        Self { endpoint, authorization, client: Client::new(&transport), transport }
    }

    /// Fetches within the deadline of the transport.
    async fn fetch(&self) -> Result<Credentials, Error> {
        let endpoint = self.endpoint.as_ref().map_err(Clone::clone)?;
        attempts::within_deadline(&self.transport, || endpoint.origin(), move || self.attempt(endpoint)).await
    }

    /// Makes one attempt. It reads the token, since kubelet may have written a new one since the last attempt.
    async fn attempt(&self, endpoint: &Endpoint) -> Result<Credentials, Fault> {
        let token = self.authorization.token()?;
        let mut unreachable = None;
        for place in endpoint.places(&self.transport.dns).await? {
            match self.request(endpoint, place, token.as_ref()).await {
                Err(Fault::Failure { failure, .. }) if failure.is_unreachable() => unreachable = Some(failure),
                result => return result,
            }
        }
        Err(unreachable.unwrap_or(Failure::ConnectionRefused).into())
    }

    async fn request(
        &self,
        endpoint: &Endpoint,
        place: Place,
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
        future::ProvideCredentials::new(async move { Ok(self.fetch().await?) })
    }
}
