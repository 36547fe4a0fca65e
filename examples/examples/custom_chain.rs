//! A custom order of methods: a service that runs in clusters with IRSA and with Pod Identity, and on developers' machines.
//! It prints the method and fetches once.

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::provider::ProvideCredentials as _;
use pod_identity_provider::{Error, Method, PodIdentityCredentialsProvider};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // IRSA first: this service's clusters have both, and its roles' trust policies allow the clusters' issuers only. Without
    // variables of either this is a developer's machine, and the developer's own credentials are used. They are renewed
    // ahead and shared as well. The node's role is in no chain.
    let developer =
        CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("profile", ProfileFileCredentialsProvider::builder().build());
    let provider = PodIdentityCredentialsProvider::builder()
        .methods([Method::WebIdentity, Method::PodIdentity])
        .or_else("a developer's credentials", developer)
        .build();
    match (provider.method(), provider.fallback()) {
        (Some(method), _) => println!("in a pod, by {method}"),
        (None, Some(name)) => println!("not in a pod: {name}"),
        (None, None) => println!("no credentials"),
    }

    // The other way round: in a chain of the SDK, the next provider is called only where the environment names no source of
    // credentials. After any other error the chain stops.
    let chain = CredentialsProviderChain::first_try("pod", provider);
    match chain.provide_credentials().await {
        Ok(credentials) => println!("{}, until {:?}", credentials.access_key_id(), credentials.expiry()),
        // The crate's own error inside the chain's prints cause and fix.
        Err(error) => match Error::of(&error) {
            Some(known) => println!("{known}"),
            None => return Err(error.into()),
        },
    }
    Ok(())
}
