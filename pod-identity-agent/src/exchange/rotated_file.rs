//! AWS keys in a shared credentials file that another program replaces, as on EKS Hybrid Nodes.
//!
//! The SDK's provider reads the file once. This one reads it at each call, and sets an expiry, so that the SDK calls it
//! again.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use pod_identity_runtime::clock;

/// Maximum time for which keys without an expiry are used, as in AWS's agent.
const REREAD: Duration = Duration::from_secs(60);

/// Returns the SDK's default chain, with a profile that is read again.
pub(super) async fn chain() -> CredentialsProviderChain {
    CredentialsProviderChain::first_try("Environment", EnvironmentVariableCredentialsProvider::new())
        .or_else("RotatedFile", RotatedFile)
        .or_default_provider()
        .await
}

#[derive(Debug)]
struct RotatedFile;

impl RotatedFile {
    async fn read(&self) -> provider::Result {
        let mut credentials = ProfileFileCredentialsProvider::builder().build().provide_credentials().await?;
        if credentials.expiry().is_none() {
            *credentials.expiry_mut() = Some(clock::now() + REREAD);
        }
        Ok(credentials)
    }
}

impl ProvideCredentials for RotatedFile {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.read())
    }
}
