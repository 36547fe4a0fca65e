//! The identity cache in clients of STS, and alone.

mod alone;
mod clients;

use aws_credential_types::provider::ProvideCredentials;

use crate::provider::PodIdentityCredentialsProvider;
use crate::scripted::{Source, settle};

/// One of our providers, with this source.
fn provider(source: &Source) -> PodIdentityCredentialsProvider {
    let builder = PodIdentityCredentialsProvider::builder().methods([]);
    builder.or_else("scripted", source.clone()).time_source(source.wall()).build()
}

/// Which of its source's answers a provider gives.
async fn given(provider: &impl ProvideCredentials) -> String {
    provider.provide_credentials().await.unwrap().access_key_id().to_owned()
}
