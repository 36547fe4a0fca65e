//! The container credentials protocol: an HTTP request with the pod's token to the agent on the node.

mod attempt_error;
mod attempts;
mod authorization;
mod endpoint;
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

use attempt_error::AttemptError;
use authorization::{Authorization, Token};
use endpoint::{Endpoint, Target};
use request::Client;

const FIX_NO_TOKEN: &str = "Create the pod again with the webhook running, or set the variable to the path of the pod's token: \
                        the agent of EKS Pod Identity refuses requests without one";

/// The source of credentials for EKS Pod Identity.
#[derive(Debug)]
pub(crate) struct ContainerCredentials {
    endpoint: Result<Endpoint, Error>,
    authorization: Authorization,
    client: Client,
    transport: Transport,
}

impl ContainerCredentials {
    /// Returns a source for the endpoint and the token of the environment. The first request reports an invalid environment.
    pub(crate) fn new(environment: &Environment, transport: Transport) -> Self {
        let authorization = Authorization::of(environment);
        let endpoint = Endpoint::of(environment).and_then(|endpoint| match authorization {
            Authorization::None if endpoint.is_eks_agent() => {
                let reason = format!("is not set, nor is {}", env::TOKEN);
                Err(Error::unusable(env::TOKEN_FILE, &reason, FIX_NO_TOKEN))
            }
            _ => Ok(endpoint),
        });
        Self { endpoint, authorization, client: Client::new(&transport), transport }
    }

    /// Fetches within the transport's deadline.
    async fn fetch(&self) -> Result<Credentials, Error> {
        let endpoint = self.endpoint.as_ref().map_err(Clone::clone)?;
        attempts::within_deadline(&self.transport, || endpoint.origin(), move || self.attempt(endpoint)).await
    }

    /// Makes one attempt. Each attempt reads the token, because kubelet may have replaced it.
    async fn attempt(&self, endpoint: &Endpoint) -> Result<Credentials, AttemptError> {
        let token = self.authorization.token()?;
        let mut unreachable = None;
        for target in endpoint.targets(&self.transport.dns).await? {
            match self.request(endpoint, target, token.as_ref()).await {
                Err(AttemptError::Failure { failure, .. }) if failure.is_unreachable() => {
                    unreachable = Some(failure);
                }
                result => return result,
            }
        }
        Err(unreachable.unwrap_or(Failure::ConnectionRefused).into())
    }

    async fn request(
        &self,
        endpoint: &Endpoint,
        target: Target,
        token: Option<&Token>,
    ) -> Result<Credentials, AttemptError> {
        let response = self.client.send(endpoint, target, token).await?;
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
