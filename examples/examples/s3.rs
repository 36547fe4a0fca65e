//! Lists a bucket from inside a pod: `s3 BUCKET`.
//!
//! The pod's service account has a role by EKS Pod Identity. Two lines of the configuration use it: the provider and its
//! identity cache, which a client reads on each request. Region and endpoint come from the environment, as in any AWS
//! program.

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bucket = std::env::args().nth(1).ok_or("usage: s3 BUCKET")?;

    let provider = pod_identity_provider::default();
    // Without credentials the program ends here. The error prints its cause and its fix.
    provider.credentials().await?;
    let config = aws_config::defaults(BehaviorVersion::latest())
        .credentials_provider(provider.clone())
        .identity_cache(provider.identity_cache())
        .load()
        .await;

    // The paginator requests the next page while there is one.
    let mut pages = Client::new(&config).list_objects_v2().bucket(bucket).into_paginator().send();
    while let Some(page) = pages.next().await {
        for object in page?.contents() {
            println!("{:>12} {}", object.size().unwrap_or_default(), object.key().unwrap_or_default());
        }
    }
    Ok(())
}
