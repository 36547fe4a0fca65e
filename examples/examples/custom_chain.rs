//! Ways to credentials in an order of one's own: a service that runs in clusters with IRSA and with Pod Identity, and on
//! developers' machines. It says which way it is, and fetches once.

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::provider::ProvideCredentials as _;
use pod_identity_provider::{Error, Method, PodIdentityCredentialsProvider};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // IRSA first: this service's clusters have both, and its roles' trust policies know the clusters' issuers only.
    // Where a pod was given neither, it is no pod, and a developer's own credentials are asked for. What comes from
    // there is renewed ahead and shared as well. The node's role is in no chain.
    let developer =
        CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("profile", ProfileFileCredentialsProvider::builder().build());
    let provider = PodIdentityCredentialsProvider::builder()
        .methods([Method::WebIdentity, Method::PodIdentity])
        .or_else("a developer's credentials", developer)
        .build();
    match provider.method() {
        Some(Method::Other(name)) => println!("not in a pod: {name}"),
        Some(method) => println!("in a pod, by {method}"),
        None => println!("nowhere"),
    }

    // The other way round: within a chain of the SDK, the provider gives way where the pod was told nothing, and only
    // there. What is set up and does not work is an error, and not the next one's turn.
    let chain = CredentialsProviderChain::first_try("pod", provider);
    match chain.provide_credentials().await {
        Ok(credentials) => println!("{}, until {:?}", credentials.access_key_id(), credentials.expiry()),
        // The crate's own error, however deep, says what to do.
        Err(error) => match Error::of(&error) {
            Some(known) => println!("{known}"),
            None => return Err(error.into()),
        },
    }
    Ok(())
}
