//! The identity cache in clients of STS, and alone.

mod alone;
mod clients;

use aws_credential_types::provider::ProvideCredentials;

use crate::provider::PodIdentityCredentialsProvider;
use crate::scripted::Source;

/// One of our providers, with this source.
fn provider(source: &Source) -> PodIdentityCredentialsProvider {
    let builder = PodIdentityCredentialsProvider::builder().methods([]);
    builder.or_else("scripted", source.clone()).time_source(source.wall()).build()
}

/// Lets the tasks go on that are ready to.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Which of its source's answers a provider gives.
async fn given(provider: &impl ProvideCredentials) -> String {
    provider.provide_credentials().await.unwrap().access_key_id().to_owned()
}
