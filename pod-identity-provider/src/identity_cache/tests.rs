//! The identity cache alone, and in clients of STS.

mod alone;
mod clients;

use crate::provider::PodIdentityCredentialsProvider;
use crate::scripted::Source;

/// Returns a provider with this source.
fn provider(source: &Source) -> PodIdentityCredentialsProvider {
    let builder = PodIdentityCredentialsProvider::builder().methods([]);
    builder.or_else("scripted", source.clone()).time_source(source.wall()).build()
}
