//! A custom order of methods, for a service that runs in clusters with IRSA and with Pod Identity, and on developers'
//! machines. The program prints the method and fetches once.

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::provider::ProvideCredentials as _;
use pod_identity_provider::{Error, Method, PodIdentityCredentialsProvider};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // IRSA first: some clusters have both methods, and the roles' trust policies allow IRSA only. A process without the
    // variables of either method runs on a developer's machine, and uses the developer's credentials. No chain contains the
    // node's role.
    let developer =
        CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("profile", ProfileFileCredentialsProvider::builder().build());
    let provider = PodIdentityCredentialsProvider::builder()
        .methods([Method::WebIdentity, Method::PodIdentity])
        .or_else("a developer's credentials", developer)
        .build();
    match (provider.method(), provider.fallback()) {
        (Some(method), _) => println!("in a pod, method: {method}"),
        (None, Some(name)) => println!("not in a pod, fallback: {name}"),
        (None, None) => println!("no method configured"),
    }

    // The provider can also be part of a chain of the SDK. The chain continues with its next provider only if no method is
    // configured. After any other error it stops.
    let chain = CredentialsProviderChain::first_try("pod", provider);
    match chain.provide_credentials().await {
        Ok(credentials) => println!("{}, until {:?}", credentials.access_key_id(), credentials.expiry()),
        // The provider's error inside the chain's error prints cause and fix.
        Err(error) => match Error::of(&error) {
            Some(provider_error) => println!("{provider_error}"),
            None => return Err(error.into()),
        },
    }
    Ok(())
}
